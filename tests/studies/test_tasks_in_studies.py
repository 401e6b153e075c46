"""A study on several labels, and one on a regression: chosen, confirmed, evaluated and told the right way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError
from balance_tune.studies.loading import load_config
from balance_tune.studies.results import tables
from balance_tune.studies.results.report import html
from balance_tune.studies.storage.records import read_records
from balance_tune.tasks import METRICS
from tests.studies import in_process

STUDY: dict[str, Any] = {
    "methods": ["joint", "mlb"],
    "training": {"epochs": 3, "batch_size": 8, "lr": 0.02},
    "search": {"trials": 2, "early_stopping": {"grace": 1, "reduction": 2}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
}


class Feelings(Dataset):
    """Two views of a number from -3 to 3."""

    name = "feelings"
    task = "regression"
    classes = ("sentiment",)
    modalities: ClassVar[dict[str, Modality]] = {
        m: Modality((3,), "mlp", {"hidden": 4, "features": 4}) for m in ("a", "b")
    }
    split = SplitRecipe("stratified", train=0.4, monitor=0.2, val=0.2, test=0.2)

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        y = generator.uniform(-3, 3, (60, 1)).astype(np.float32)
        noise = {m: size * generator.normal(size=(60, 3)) for m, size in (("a", 0.3), ("b", 2.0))}
        return Samples({m: (y * [[1, -1, 0.5]] + e).astype(np.float32) for m, e in noise.items()}, y)


class Tags(Feelings):
    """Two views of three labels."""

    name = "tags"
    task = "multilabel"
    classes = ("high", "even", "odd")

    def read(self) -> Samples:
        samples = super().read()
        y = samples.labels[:, 0]
        labels = np.stack([y > 0, np.abs(y) > 1, np.abs(y) < 2], axis=1).astype(np.float32)
        return Samples(samples.inputs, labels)


@pytest.mark.parametrize("dataset", ["feelings", "tags"])
def test_a_study_of_another_task_ends_with_a_leaderboard_and_a_report(tmp_path: Path, dataset: str) -> None:
    metric = METRICS[Feelings.task if dataset == "feelings" else Tags.task][0]
    config = load_config({"name": "other", "datasets": [dataset], "objective": f"val/{metric}", **STUDY})
    rows = in_process.run(config, tmp_path / "other")
    assert {row["metric"] for row in rows} == {metric}
    assert all(row["test_mean"] is not None for row in rows)
    assert set(rows[0]["test_by_modality"]) == {"a", "b"}
    assert all(row["test_ci"] is not None for row in rows), "every metric has an interval"
    assert all(row["row_share"] is not None for row in rows if not row["baseline"])
    sign = -1 if metric == "mae" else 1
    values = [sign * row["val_confirm"] for row in rows]
    assert values == sorted(values, reverse=True)  # best validation first
    assert rows[0]["chosen"]
    record = next(r for r in read_records(tmp_path / "other") if r.phase == "confirm")
    best = (min if metric == "mae" else max)(record.curve.values())
    assert record.value == pytest.approx(best)
    assert metric in tables.as_text(rows) or metric == "map"
    assert html.write(tmp_path / "other").exists()


def test_an_objective_the_data_has_not_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"`objective` must be a metric of every dataset, but got `val/accuracy`"):
        load_config({"name": "other", "datasets": ["feelings"], **STUDY})
    with pytest.raises(UserError, match=r"feelings/ogm: ogm needs class probabilities"):
        load_config({"name": "o", "datasets": ["feelings"], "objective": "val/mae", **{**STUDY, "methods": ["ogm"]}})
