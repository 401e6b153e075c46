"""What tracking costs, against Ray's MLflow callback on the same trials: python -m benchmarks.tracking

Both write the same epochs, eight metrics in each of twenty, to MLflow in sqlite. On the trial's path (Tune's driver
thread) ours writes `trial.json`, and a process of its own syncs the folder; Ray's callback sends on that path.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import create_trial

from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of, trial_config
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.backend import store_of as mlflow_store
from balance_tune.studies.tracking.sync import Sync
from benchmarks.search_phase import study_folder
from benchmarks.table import Table, show, spread
from benchmarks.trials import store_of

EPOCHS, TRIALS, ROUNDS = 20, 20, 3


def reports() -> list[dict[str, Any]]:
    """Return what a trial of twenty epochs reports."""
    names = ("val/accuracy", "val/macro_f1", "val/loss", "val/accuracy/audio", "val/accuracy/image", "val/gap")
    return [
        {
            **{name: 0.5 + 0.01 * epoch for name in (*names, "train/loss", "time/epoch_s")},
            "epoch": epoch,
            "best_epoch": epoch,
            "device_seconds": 0.1 * epoch,
            "state": "complete" if epoch == EPOCHS else "running",
            "training_iteration": epoch,
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def play(callback: Any, configs: list[dict[str, Any]]) -> list[float]:
    """Run the trials' callbacks as Tune calls them; return the milliseconds of each trial."""
    spent = []
    for number, config in enumerate(configs):
        trial = _Trial(config, f"t{number}")
        began = time.perf_counter()
        callback.on_trial_start(0, [], trial)
        for report in reports():
            callback.on_trial_result(0, [], trial, dict(report))
        callback.on_trial_complete(0, [], trial)
        spent.append((time.perf_counter() - began) * 1e3)
    return spent


class _Trial:
    """What a callback sees of Ray Tune's trial."""

    def __init__(self, config: dict[str, Any], trial_id: str) -> None:
        self.config, self.trial_id, self.evaluated_params = config, trial_id, {}
        self.local_path: str | None = None

    def __str__(self) -> str:
        return self.trial_id


def ours(folder: Path) -> tuple[list[float], float]:
    """Return the milliseconds of each trial on the trial's path, and per trial of the pass that writes them all."""
    config = load_config({"name": "tracking", "datasets": ["av_digits"], "methods": ["joint", "ogm_ge"]})
    arm, store = arms_of(config)[1], store_of("av_digits")
    study_folder = folder / "tracking"
    study_folder.mkdir()
    (study_folder / "study.yaml").write_text(config.as_yaml())
    storage = open_storage(StudyFolder(study_folder))
    study = optuna.create_study(study_name=arm.name, storage=storage, direction="maximize")
    syncing = Sync(study_folder, mlflow_store(folder))
    syncing.run("running")  # creates the tables and the study's run
    history = "".join(json.dumps(report) + "\n" for report in reports())
    spent = []
    for number in range(TRIALS):
        params = arm.space.defaults()
        trial = trial_config(
            config, arm, params, phase="search", number=number, seed=number, study_folder=study_folder, store=store
        )
        began = time.perf_counter()
        trial_file.write(StudyFolder(Path(trial["folder"])), trial)
        spent.append((time.perf_counter() - began) * 1e3)
        (Path(trial["folder"]) / "history.jsonl").write_text(history)
        attrs = {"epochs": EPOCHS, "device_seconds": 2.0, "best_epoch": EPOCHS, "metrics": reports()[-1], "seed": 1}
        attrs["folder"] = str(Path(trial["folder"]).relative_to(study_folder))
        distributions = arm.space.distributions()
        study.add_trial(
            create_trial(params=params, distributions=distributions, value=0.7, user_attrs={**attrs, "phase": "search"})
        )
    began = time.perf_counter()
    if not syncing.run("running"):
        raise RuntimeError("MLflow did not take the trials")
    return spent, (time.perf_counter() - began) / TRIALS * 1e3


def rays(folder: Path) -> list[float]:
    """Return the milliseconds per trial of Ray's callback; all of it is on the trial's path."""
    import mlflow
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'ray.db'}", experiment_name="tracking")
    callback.setup()
    settings = {"training": json.dumps({"lr": 0.05}), "modulation": json.dumps({"alpha": 0.8})}
    configs = [{**settings, "number": n} for n in range(TRIALS // 10 + 1)]
    spent = play(callback, configs)[1:]
    mlflow.set_tracking_uri("")  # the callback has set it for the whole process
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return spent


def measure() -> Table:
    """Return the table; ours and Ray's take turns, each in a fresh store."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    path, worker, theirs = [], [], []
    for _ in range(ROUNDS):
        with study_folder() as folder:
            spent, wrote = ours(folder)
            path += spent
            worker.append(wrote)
            theirs += rays(folder)
    mean = sum(theirs) / len(theirs)
    rows = [
        ["balance_tune, trial's path", spread(path), f"{mean / (sum(path) / len(path)):.0f}"],
        ["balance_tune, worker's process", spread(worker), f"{mean / (sum(worker) / len(worker)):.1f}"],
        ["Ray's MLflowLoggerCallback, trial's path", spread(theirs), "1"],
    ]
    return Table(
        "Tracking",
        f"Milliseconds per trial of {EPOCHS} epochs with 8 metrics each, MLflow in sqlite; how many times less than "
        "Ray's callback.",
        ("way", "ms per trial", "times less"),
        rows,
    )


if __name__ == "__main__":
    show(measure())
