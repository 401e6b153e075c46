"""What the driver spends on a trial, early and late in a long study: python -m benchmarks.driver [TRIALS]

Trials that cost nothing: three epochs reported at once, without training. All the rest is a study's: queue, TPE, ASHA,
pruning log, journal, MLflow, Ray Tune. The hundreds at the beginning leave out the first twenty trials, in which Ray
starts its actors.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from balance_tune.studies.loading import load_config
from benchmarks.search_phase import Phase, say, search, study_folder
from benchmarks.table import Table, show

EPOCHS, PASSED, HUNDRED = 3, 20, 100
METHODS = ("joint", "ogm", "ogm_ge", "opm", "opm_ogm", "mlb", "multi_loss", "mslr", "relearning", "pmr")
DATASETS = ("av_digits", "multiple_features")


def instant(config: dict[str, Any]) -> None:
    """Report what a trial of three epochs would, its accuracy made up from its settings."""
    from ray import tune

    settings = json.dumps([config["training"], config["modulation"]], sort_keys=True)
    luck = hashlib.sha256(settings.encode()).digest()[0] / 255
    for epoch in range(1, EPOCHS + 1):
        accuracy = 0.5 + 0.1 * epoch + 0.1 * luck
        tune.report(
            {
                "epoch": epoch,
                "train/loss": 1.0 - accuracy,
                "val/accuracy": accuracy,
                "val/macro_f1": accuracy,
                "val/loss": 1.0 - accuracy,
                "val/gap": 0.1,
                "time/epoch_s": 0.001,
                "device_seconds": 0.001 * epoch,
                "best_epoch": epoch,
                "state": "complete" if epoch == EPOCHS else "running",
            }
        )


def run(trials: int) -> Phase:
    """Run a study of so many trials in twenty arms."""
    config = load_config(
        {
            "name": "driver",
            "datasets": list(DATASETS),
            "methods": list(METHODS),
            "training": {"epochs": EPOCHS},
            "search": {
                "trials": trials // (len(DATASETS) * len(METHODS)),
                "early_stopping": {"grace": 1, "reduction": 3},
            },
        }
    )
    with study_folder() as folder:
        return search(config, instant, cpus=2, folder=folder)


def costs(phase: Phase, first: int, count: int) -> tuple[float, float]:
    """Return (wall, driver's CPU) milliseconds per trial between trial `first` to end and the one `count` later."""
    ended = list(phase.ended.values())
    (wall, cpu, _), (wall_then, cpu_then, _) = ended[first], ended[first + count]
    return (wall_then - wall) / count * 1e3, (cpu_then - cpu) / count * 1e3


def measure(trials: int = 3000) -> Table:
    """Return the table of the first and the last hundred trials, and of those in the middle."""
    phase = run(trials)
    say(f"driver: {len(phase.ended)} trials in {phase.seconds:.1f} s")
    ended = len(phase.ended)
    parts = {"first": PASSED, "middle": ended // 2, "last": ended - HUNDRED - 1}
    found = {name: costs(phase, first, HUNDRED) for name, first in parts.items()}
    wall, cpu = found["first"]
    rows = [
        [f"{name} {HUNDRED}", f"{w:.1f}", f"{w / wall:.2f}", f"{c:.1f}", f"{c / cpu:.2f}"]
        for name, (w, c) in found.items()
    ]
    whole = costs(phase, PASSED, ended - PASSED - 1)
    rows.append(["all", f"{whole[0]:.1f}", f"{whole[0] / wall:.2f}", f"{whole[1]:.1f}", f"{whole[1] / cpu:.2f}"])
    return Table(
        "The driver",
        f"A study of {ended} trials in {len(DATASETS) * len(METHODS)} arms whose trials cost nothing, two at a time: "
        "milliseconds per trial of wall time and of the driver's CPU time (MLflow's worker included), and how many "
        "times those of the first hundred. MLflow had the last of them "
        f"{phase.lag:.0f} s after all else was over.",
        ("trials", "wall ms", "ratio", "CPU ms", "ratio"),
        rows,
    )


if __name__ == "__main__":
    show(measure(*map(int, sys.argv[1:2])))
