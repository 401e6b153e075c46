"""What a further trial costs before it trains, against Ray's own recipe: python -m benchmarks.trial_start

Both run the same trials of two epochs of Multiple Features, two at a time, on one local cluster. The recipe is the one
of Ray's documentation: a Tune function that starts a TorchTrainer with one worker and reports by TuneReportCallback.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.data import configuration
from benchmarks.table import Table


def loop(config: dict[str, Any]) -> None:
    """The training function of both: two epochs through the loop, reported by the function in the configuration."""
    from ray import train as ray_train
    from ray import tune

    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    report = tune.report if config["local"] else ray_train.report
    run, modulation = prepare(config["trial"])
    for metrics in train(run, modulation):
        report({"accuracy": metrics["val/accuracy"]})


def warm(config: dict[str, Any]) -> None:
    """Our way: Ray Train's local mode inside the reused Tune actor."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(loop, train_loop_config={**config, "local": True}, scaling_config=ScalingConfig(num_workers=0)).fit()


def recipe(config: dict[str, Any]) -> None:
    """Ray's way: a worker group per trial."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        loop,
        train_loop_config={**config, "local": False},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=tempfile.mkdtemp(), callbacks=[TuneReportCallback()]),
    ).fit()


def timed(function: Callable[[dict[str, Any]], None], trials: int, reuse: bool, cpus: float) -> float:
    """Return the wall seconds of so many trials."""
    from ray import tune

    config = {"trial": configuration("multiple_features", "joint", {}, epochs=2)}
    began = time.perf_counter()
    results = tune.Tuner(
        tune.with_resources(function, {"CPU": cpus}),
        param_space=config,
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    ).fit()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {trials} trials failed")
    return time.perf_counter() - began


def measure(trials: int = 40, recipes: int = 8) -> Table:
    """Return the table: seconds per further trial, from the difference of a long and a short run of each."""
    import ray

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "300"
    configuration("multiple_features", "joint", {})
    ray.init(address="local", num_cpus=4, log_to_driver=False)  # the recipe's actors and workers need one each
    try:
        few, many = timed(warm, 4, True, 1), timed(warm, 4 + trials, True, 1)
        short, long = timed(recipe, 2, False, 0.5), timed(recipe, 2 + recipes, False, 0.5)
    finally:
        ray.shutdown()
    ours, theirs = (many - few) / trials, (long - short) / recipes
    return Table(
        "A further trial",
        f"Wall seconds per further two-epoch trial of Multiple Features, two at a time ({trials} and {recipes}).",
        ("way", "s per trial", "ratio"),
        [
            ["reused actor, local mode (balance_tune)", f"{ours:.3f}", "1"],
            ["TorchTrainer with one worker and TuneReportCallback", f"{theirs:.2f}", f"{theirs / ours:.0f}"],
        ],
    )


if __name__ == "__main__":
    print(measure().markdown())
