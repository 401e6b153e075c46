"""What a further trial costs before it trains, against Ray's own recipe: python -m benchmarks.trial_start

Both run trials of two epochs of Multiple Features, two at a time. Ours is a study's search phase with all that belongs
to it. The recipe is that of Ray's documentation: a Tune function that starts a TorchTrainer with one worker and reports
by TuneReportCallback, with OptunaSearch and Ray's MLflow callback.
"""

from __future__ import annotations

import heapq
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies.loading import load_config
from benchmarks.intervals import Interval, note, noted
from benchmarks.search_phase import say, search, study_folder
from benchmarks.table import Table, show, spread
from benchmarks.trials import configuration

SLOTS, OURS, RECIPES = 2, 64, 8


def watched(config: dict[str, Any]) -> None:
    """Run a study's own trial, and note when its training function is entered and left."""
    from balance_tune.studies.execution import trial

    if not hasattr(trial.work, "plain"):
        plain = trial.work

        def work(config: Any, *args: Any, **options: Any) -> None:
            began = time.time()
            try:
                plain(config, *args, **options)
            finally:
                note(Path(config["scratch"]).parent / "times", (began, time.time()))

        work.plain = plain  # type: ignore[attr-defined]
        trial.work = work
    trial.run_trial(config)


def loop(config: dict[str, Any]) -> None:
    """The same training in the recipe's worker."""
    from ray import train as ray_train

    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    began = time.time()
    training = {**config["trial"]["training"], "lr": config["lr"]}
    run, modulation = prepare({**config["trial"], "training": training})
    for metrics in train(run, modulation):
        ray_train.report({"accuracy": metrics["val/accuracy"]})
    note(Path(config["times"]), (began, time.time()))


def recipe(config: dict[str, Any]) -> None:
    """Ray's way: a worker group per trial."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=tempfile.mkdtemp(), callbacks=[TuneReportCallback()]),
    ).fit()


def recipes(folder: Path) -> list[Interval]:
    """Run the recipe on a cluster of its own and return when each training function was entered and left."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    trial = configuration("multiple_features", "joint", {}, epochs=2)
    mlflow = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="recipe")
    ray.init(address="local", num_cpus=4, log_to_driver=False)  # the recipe's actors and workers need one each
    try:
        results = tune.Tuner(
            tune.with_resources(recipe, {"CPU": 0.5}),
            param_space={"lr": tune.loguniform(0.01, 0.2), "trial": trial, "times": str(folder / "times")},
            tune_config=tune.TuneConfig(
                num_samples=RECIPES,
                max_concurrent_trials=SLOTS,
                search_alg=OptunaSearch(metric="accuracy", mode="max"),
            ),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[mlflow], verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {RECIPES} trials failed")
    return noted(folder / "times")


def ours(folder: Path) -> list[Interval]:
    """Run a study's search phase and return the same of it.

    All trials are one batch: the batches of one arm wait for each other, and a study fills its slots from other arms.
    """
    config = load_config(
        {
            "name": "start",
            "datasets": ["multiple_features"],
            "methods": ["joint"],
            "training": {"epochs": 2},
            "search": {"trials": OURS, "parallel": OURS, "early_stopping": "none"},
        }
    )
    search(config, watched, cpus=SLOTS, folder=folder)
    return noted(folder / "times")


def gaps(intervals: Sequence[Interval]) -> list[float]:
    """Return, for each trial but the first of each slot, the seconds from a slot's release to its first line."""
    free, found = [ended for _, ended in intervals[:SLOTS]], []
    heapq.heapify(free)
    for began, ended in intervals[SLOTS:]:
        found.append(began - heapq.heapreplace(free, ended))
    return found


def marginal(intervals: Sequence[Interval], passed: int) -> float:
    """Return the wall seconds per further trial once so many have ended."""
    ends = sorted(ended for _, ended in intervals)
    return (ends[-1] - ends[passed - 1]) / (len(ends) - passed)


def measure() -> Table:
    """Return the table; each way has a process and a cluster to itself."""
    with study_folder() as folder:
        say("the recipe: eight trials, some two minutes")
        subprocess.run([sys.executable, "-m", __spec__.name, str(folder)], check=True, stdout=sys.stderr)
        theirs = noted(folder / "times")
    with study_folder() as folder:
        mine = ours(folder)
    walls = marginal(mine, passed=4), marginal(theirs, passed=SLOTS)
    starts = gaps(mine), gaps(theirs)
    each = [sum(found) / len(found) for found in starts]
    names = (
        f"balance_tune: reused actor, local mode ({OURS})",
        f"TorchTrainer(1), TuneReportCallback, OptunaSearch, MLflowLoggerCallback ({RECIPES})",
    )
    rows = [
        [name, f"{wall:.3f}", f"{wall / walls[0]:.0f}", spread(found, 3), f"{mean:.3f}", f"{mean / each[0]:.0f}"]
        for name, wall, found, mean in zip(names, walls, starts, each, strict=True)
    ]
    return Table(
        "A further trial",
        "Trials of two epochs of Multiple Features, two at a time: wall seconds per further trial, and seconds from a "
        "slot's release to the first line of the next training function.",
        ("way (trials)", "s per trial", "ratio", "start s", "mean", "ratio"),
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        recipes(Path(sys.argv[1]))
    else:
        show(measure())
