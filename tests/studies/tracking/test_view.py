"""The view of a study's runs: its columns are tags and metrics that runs have, and the page's address names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from balance_tune.studies.results.leaderboard import COLUMNS
from balance_tune.studies.tracking import page
from balance_tune.studies.tracking.backend import Store
from balance_tune.studies.tracking.sync import sync
from balance_tune.studies.tracking.view import KEY, VIEW
from tests.studies.tracking.written import WrittenStudy


def test_every_column_of_the_view_is_a_tag_or_a_metric_of_a_run(
    written: Callable[..., WrittenStudy], store: Store, client: Any
) -> None:
    study = written()
    study.begin(0).train(3).end()
    assert sync(study.folder, store)
    experiment = client.get_experiment_by_name(study.folder.name)
    assert page._page(store, study.folder.name).endswith(f"&viewStateShareKey={KEY}")
    state = json.loads(experiment.tags[VIEW])
    runs = client.search_runs([experiment.experiment_id])
    known = {f"tags.`{name}`" for run in runs for name in run.data.tags}
    known |= {f"metrics.`{name}`" for run in runs for name in run.data.metrics}
    known |= {f"metrics.`leaderboard/{name}`" for name, column in COLUMNS.items() if column.mlflow}
    assert set(state["selectedColumns"]) <= known
    assert state["columnOrder"] == ["attributes.`Run Name`", *state["selectedColumns"]] == list(state["columnWidths"])
