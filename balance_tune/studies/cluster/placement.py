"""Where a trial's Tune actor goes.

Every actor imports this module, so it imports nothing that only the driver needs: Optuna and SQLAlchemy would be a
tenth of a second and some megabytes in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ray import tune


def place(config: Mapping[str, Any], *, cpus: int, gpus: float, workers: int, head: str) -> tune.PlacementGroupFactory:
    """Return what a trial's actor takes: the trial's own `cpus` and `gpus`, or else these.

    Where a trial has several workers, the actor does nothing but wait for them, on the node with the resource `head`.
    """
    if workers > 1:
        return _one_place(**{head: 0.001})
    gpus = config.get("gpus", gpus)
    return _one_place(CPU=config.get("cpus", cpus), **({"GPU": gpus} if gpus else {}))


@cache
def _one_place(**resources: float) -> tune.PlacementGroupFactory:
    """Return the same object for the same resources; Tune compares those of all trials, and equal ones only slowly."""
    return tune.PlacementGroupFactory([resources])
