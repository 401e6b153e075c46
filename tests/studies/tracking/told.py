"""What a study tells the tracker, made up."""

from __future__ import annotations

from typing import Any


def trial(number: int = 0, arm: str = "av_digits/mlb", phase: str = "search", **more: Any) -> dict[str, Any]:
    """Return a trial's configuration, as Tune hands it to callbacks."""
    dataset, _, method = arm.partition("/")
    return {
        "arm": arm, "dataset": dataset, "method": method, "variant": None, "phase": phase, "number": number, "seed": 7,
        "training": {"lr": 0.1 + number, "epochs": 20}, "model": {"fusion": "concat", "encoders": {}},
        "modulation": {"start": 0.0}, "workers": 1, **more,
    }  # fmt: skip


def result(epoch: int, **more: Any) -> dict[str, Any]:
    """Return what a trial reports after an epoch, with some of what Tune adds."""
    return {
        "epoch": float(epoch), "val/accuracy": 0.5 + epoch / 100, "val/accuracy/audio": 0.4, "val/accuracy/image": 0.45,
        "val/gap": 0.05, "train/loss": 2.0 / epoch, "modulation/k/audio": 0.9, "time/epoch_s": 0.1,
        "device_seconds": 0.1 * epoch, "state": "running", "done": False, "training_iteration": epoch, "pid": 4711,
        "config": {}, **more,
    }  # fmt: skip


ATTRS = {
    "seed": 7, "phase": "search", "epochs": 3, "best_epoch": 2, "device_seconds": 0.3, "folder": "trials/none",
    "metrics": {"val/accuracy": 0.52},
}  # fmt: skip
