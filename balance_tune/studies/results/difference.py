"""The difference of two arms of one dataset: on the runs that both have, with the collapsed ones of all arms marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balance_tune.studies.protocol.keys import BASELINE
from balance_tune.studies.results.arm_results import ArmResults
from balance_tune.studies.results.inference import (
    Bools,
    Comparison,
    collapsed,
    compare,
    probability_of_improvement,
)
from balance_tune.studies.results.statistics import Interval


@dataclass(frozen=True)
class Difference:
    """The comparison of two arms on their common runs.

    Attributes:
        comparison: of the test scores.
        chance: probability that a run of the first arm is better than one of the second, a failed run being the worst,
            with its interval; None without runs.
    """

    comparison: Comparison
    chance: tuple[float, Interval] | None


def collapsed_runs(arms: Sequence[ArmResults]) -> dict[str, Bools]:
    """Return method -> which of its runs collapsed, over all keys of a run.

    Args:
        arms: all arms of one dataset under one protocol, at least one.
    """
    metric = next((arm.metric for arm in arms if arm.method == BASELINE), arms[0].metric)
    runs = {arm.method: arm.runs(arm.run_keys()) for arm in arms}
    units = next((r.units.shape[1] for r in runs.values() if r.units is not None), None)
    resolution = 1 / units if units and metric.is_share else 0.0
    bad = collapsed([r.scores for r in runs.values()], lower=metric.lower_is_better, resolution=resolution)
    return dict(zip(runs, bad, strict=True))


def difference(ours: ArmResults, theirs: ArmResults, bad: Mapping[str, Bools], level: float) -> Difference:
    """Return the difference ours - theirs.

    Args:
        ours: an arm.
        theirs: another arm of the same dataset.
        bad: as of `collapsed_runs`.
        level: of the interval.
    """
    keys, ended, metric = ours.run_keys(), ours.finished_keys() & theirs.finished_keys(), ours.metric
    common = [i for i, key in enumerate(keys) if key in ended]
    runs = [arm.runs([keys[i] for i in common]) for arm in (ours, theirs)]
    comparison = compare(
        *runs,
        worst=metric.worst,
        lower=metric.lower_is_better,
        level=level,
        bad=(bad[ours.method][common], bad[theirs.method][common]),
    )
    last = np.inf if metric.lower_is_better else -np.inf
    ranked = [np.where(r.failed, last, r.scores) for r in runs]
    return Difference(comparison, probability_of_improvement(*ranked, lower=metric.lower_is_better))
