"""Which runner a study's trials get: actors used again, or a process each."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from balance_tune.studies import engine
from balance_tune.studies.cluster.ray_cluster import TrialResources
from balance_tune.studies.execution import tune_run
from tests.studies.toy import ToyStudy


class Asked(Exception):
    """Carries what Tune was asked for instead of running it."""


def asked_of_tune(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, **options: Any) -> bool:
    def tuner(trainable: Any, *, tune_config: tune.TuneConfig, **_: Any) -> Any:
        raise Asked(tune_config.reuse_actors)

    study = ToyStudy(folder)
    monkeypatch.setattr(tune, "Tuner", tuner)
    monkeypatch.setattr(tune_run, "remote", lambda: False)  # which would ask a running Ray
    with pytest.raises(Asked) as caught:
        tune_run.run_trials(study.queue, study.pruner, TrialResources(1, 0.0, workers, 1), folder, **options)
    return bool(caught.value.args[0])


@pytest.mark.parametrize(("workers", "warm", "reused"), [(1, True, True), (1, False, False), (2, True, False)])
def test_actors_are_used_again_where_one_worker_trains_and_nobody_forbids_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, warm: bool, reused: bool
) -> None:
    assert asked_of_tune(tmp_path, monkeypatch, workers, warm=warm) is reused
    assert asked_of_tune(tmp_path / "default", monkeypatch, workers) is (workers == 1)


@pytest.mark.parametrize(("runner", "warm"), [("auto", True), ("warm", True), ("isolated", False)])
def test_the_study_files_runner_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str, warm: bool
) -> None:
    def run_trials(*args: Any, **options: Any) -> str:
        raise Asked(options["warm"])

    monkeypatch.setattr(tune_run, "run_trials", run_trials)
    monkeypatch.setattr(engine, "ray_for", lambda resources: nullcontext({"CPU": 2.0}))
    monkeypatch.setattr(engine, "remote", lambda: False)
    config = {"name": "s", "datasets": ["multiple_features"], "methods": ["joint"], "runner": runner}
    with pytest.raises(Asked) as caught:
        engine.run_study({**config, "search": {"trials": 1}}, root=tmp_path, progress="plain")
    assert caught.value.args[0] is warm
