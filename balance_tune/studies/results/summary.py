"""Results over all datasets of a study: interquartile means and performance profiles with their intervals.

Both are defined as in rliable (Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice,
NeurIPS 2021), on scores relative to the joint baseline. They describe; the verdict on a method is the leaderboard's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balance_tune.studies.protocol.keys import BASELINE
from balance_tune.studies.results.across import (
    against_baseline,
    interquartile_interval,
    interquartile_mean,
    performance_profile,
    profile_band,
)
from balance_tune.studies.results.arm_results import ArmResults
from balance_tune.studies.results.statistics import Floats, Interval

FEWEST = 2  # datasets, and runs of a method on each of them
THRESHOLDS = 60
NEEDED = (
    "Interquartile means and performance profiles over datasets need two datasets, with two runs of the joint baseline "
    "and of a method on each of them."
)


@dataclass(frozen=True)
class MethodSummary:
    """One method over all datasets; scores are relative to the mean of the joint baseline, larger is better.

    Attributes:
        method: its name.
        mean: the interquartile mean.
        interval: its 95 % stratified bootstrap interval.
        profile: (T,) the share of runs above each threshold.
        band: (T,), (T,) the pointwise 95 % band of the profile.
    """

    method: str
    mean: float
    interval: Interval
    profile: Floats
    band: tuple[Floats, Floats]


@dataclass(frozen=True)
class Summary:
    """The methods that every dataset has, best interquartile mean first, and the thresholds (T,) of their profiles."""

    datasets: tuple[str, ...]
    thresholds: Floats
    methods: tuple[MethodSummary, ...]


def summarise(arms: Mapping[str, Sequence[ArmResults]]) -> Summary | None:
    """Return the summary of arms, or None with fewer datasets or runs than `NEEDED` says.

    Args:
        arms: dataset -> the arms to be summarised, under one protocol.
    """
    runs = {dataset: own for dataset, table in arms.items() if BASELINE in (own := _runs(table))}
    lower = [dataset for dataset in runs if arms[dataset][0].metric.lower_is_better]
    scores = against_baseline(runs, BASELINE, lower=lower)
    if len(runs) < FEWEST or len(scores) < 2:
        return None
    thresholds = _thresholds(np.concatenate([s for own in scores.values() for s in own]))
    methods = [
        MethodSummary(
            method,
            interquartile_mean(own),
            interquartile_interval(own),
            performance_profile(own, thresholds),
            profile_band(own, thresholds),
        )
        for method, own in scores.items()
    ]
    return Summary(tuple(runs), thresholds, tuple(sorted(methods, key=lambda m: -m.mean)))


def as_csv(summary: Summary) -> str:
    """Return the interquartile means as CSV, fractions of the baseline's score, a line for each method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "interquartile_mean", "low", "high", "datasets"))
    writer.writerows((m.method, m.mean, *m.interval, " ".join(summary.datasets)) for m in summary.methods)
    return text.getvalue()


def _runs(table: Sequence[ArmResults]) -> dict[str, Floats]:
    """Return method -> scores of its runs that have ended, where they are enough.

    A failed run scores the worst that the metric allows, or else the worst of all runs; those of the baseline are left
    out, in its favour. A dataset on which the baseline scores zero has no relative scores.
    """
    by_method = {arm.method: arm.runs(sorted(arm.finished_keys())).scores for arm in table}
    finished = np.concatenate([scores[np.isfinite(scores)] for scores in by_method.values()])
    if not len(finished):
        return {}
    metric = table[0].metric
    worst = metric.worst if metric.worst is not None else (finished.max if metric.lower_is_better else finished.min)()
    filled = {
        method: scores[np.isfinite(scores)] if method == BASELINE else np.where(np.isfinite(scores), scores, worst)
        for method, scores in by_method.items()
    }
    enough = {method: scores for method, scores in filled.items() if len(scores) >= FEWEST}
    return enough if BASELINE in enough and enough[BASELINE].mean() != 0 else {}


def _thresholds(scores: Floats) -> Floats:
    """Return evenly spaced thresholds over all scores, without the gap above single scores far below the others."""
    bulk, high = np.quantile(scores, [0.05, 1.0])
    room = 0.25 * (high - bulk) or 0.01
    return np.linspace(max(scores.min() - 0.1 * room, bulk - room), high + 0.1 * room, THRESHOLDS)
