"""Where a trial's Tune actor goes.

Every actor imports this module, so it imports nothing that only the driver needs: Optuna and SQLAlchemy would be a
tenth of a second and some megabytes in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ray import tune


def place(config: Mapping[str, Any], *, cpus: int, gpus: float, workers: int, head: str) -> tune.PlacementGroupFactory:
    """Return the placement of a trial's actor: the trial's own `cpus` and `gpus`, else these; no node in `avoid`.

    Where a trial has several workers, the actor does nothing but wait for them, on the node with the resource `head`.
    """
    if workers > 1:
        return _one_place((), **{head: 0.001})
    gpus = config.get("gpus", gpus)
    avoid = tuple(config.get("avoid", ()))
    return _one_place(avoid, CPU=config.get("cpus", cpus), **({"GPU": gpus} if gpus else {}))


def elsewhere(nodes: Sequence[str]) -> dict[str, str]:
    """Return the label selector that excludes these nodes."""
    return {"ray.io/node-id": f"!in({','.join(sorted(nodes))})"} if nodes else {}


@cache
def _one_place(avoid: tuple[str, ...], **resources: float) -> tune.PlacementGroupFactory:
    """Return the same object for the same resources: Tune compares them often, and identity is the quick case."""
    options = {"bundle_label_selector": [elsewhere(avoid)]} if avoid else {}
    return tune.PlacementGroupFactory([resources], **options)
