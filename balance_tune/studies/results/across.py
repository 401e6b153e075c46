"""Methods across datasets: ranks with a Friedman test and its post-hoc test, interquartile means, performance profiles.

Recipes of one dataset (a split, a pair of modalities, ...) are one family: they share data, so counting them as
independent makes a Friedman test find differences where there are none. Interquartile mean and performance profile are
defined as in rliable (Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS
2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from balance_tune.studies.results.statistics import Floats, Interval, friedman

ALPHA = 0.05


def by_family(scores: ArrayLike, families: Sequence[str]) -> Floats:
    """Return one row per family: the mean over its datasets of `scores` (datasets, methods), in order of appearance.

    Args:
        scores: larger is better; the recipes of a family are measured in the same metric.
        families: (datasets,) the family of each dataset.
    """
    x = np.asarray(scores, dtype=np.float64)
    names = list(dict.fromkeys(families))
    return np.stack([x[[own == name for own in families]].mean(axis=0) for name in names])


@dataclass(frozen=True)
class Ranks:
    """Average ranks of methods over families, the Friedman test and Nemenyi's post-hoc test.

    Attributes:
        methods: best first.
        average: rank of each, 1 is the best.
        families: how many the ranks are averaged over.
        p: of the Friedman test (Iman-Davenport form); None where it has next to no power.
        critical: Nemenyi's critical difference of average ranks at 5 %; None where there is no Friedman test.
        groups: maximal runs of methods, as (first, last) of `methods`, whose ranks do not differ by `critical`; one of
            all methods where the Friedman test does not reject.
    """

    methods: tuple[str, ...]
    average: tuple[float, ...]
    families: int
    p: float | None
    critical: float | None
    groups: tuple[tuple[int, int], ...]


def compare_ranks(scores: ArrayLike, methods: Sequence[str], families: Sequence[str]) -> Ranks:
    """Return ranks and tests of `scores` (datasets, methods), larger is better, with one row per family.

    Two methods differ if their average ranks differ by at least CD = q sqrt(k (k + 1) / (6 N)) of k methods on N
    families, q being the 95 % quantile of the studentised range with infinite freedom over sqrt(2) (Demšar, 2006).
    """
    values = by_family(scores, families)
    test = friedman(values)
    order = np.argsort(test.average_ranks, kind="stable")
    average = tuple(float(r) for r in test.average_ranks[order])
    critical = None
    groups: tuple[tuple[int, int], ...] = ()
    if test.p is not None:
        critical = critical_difference(len(methods), len(values))
        groups = _groups(average, critical) if test.p < ALPHA else ((0, len(methods) - 1),)
    return Ranks(tuple(methods[i] for i in order), average, len(values), test.p, critical, groups)


def critical_difference(methods: int, families: int) -> float:
    """Return Nemenyi's critical difference of average ranks at 5 %."""
    from scipy.stats import studentized_range  # half a second to import

    quantile = float(studentized_range.ppf(1 - ALPHA, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * families))


def _groups(average: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    ends = [max(j for j in range(i, len(average)) if average[j] - average[i] < critical) for i in range(len(average))]
    return tuple((i, end) for i, end in enumerate(ends) if end > i and (i == 0 or ends[i - 1] < end))


def interquartile_mean(scores: Sequence[ArrayLike]) -> float:
    """Return the mean of the middle half of all runs of all datasets: a quarter is cut off at each end, rounded down.

    Args:
        scores: runs of one method, an array (R,) a dataset, on a common scale.
    """
    values = np.sort(np.concatenate([np.asarray(s, dtype=np.float64).ravel() for s in scores]))
    quarter = len(values) // 4
    return float(values[quarter : len(values) - quarter].mean())


def interquartile_interval(
    scores: Sequence[ArrayLike], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile interval of the interquartile mean over stratified bootstrap samples.

    Runs are resampled within each dataset; datasets are kept.
    """
    sampled = np.concatenate(list(_resampled(scores, draws, seed)), axis=1)
    sampled.sort(axis=1)
    quarter = sampled.shape[1] // 4
    means = sampled[:, quarter : sampled.shape[1] - quarter].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(scores: Sequence[ArrayLike], draws: int, seed: int) -> Iterator[Floats]:
    """Yield bootstrap samples (draws, R) of the runs of each dataset."""
    rng = np.random.default_rng(seed)
    for runs in (np.asarray(s, dtype=np.float64).ravel() for s in scores):
        yield runs[rng.integers(len(runs), size=(draws, len(runs)))]


def performance_profile(scores: Sequence[ArrayLike], thresholds: ArrayLike) -> Floats:
    """Return the share of runs above each threshold (T,), averaged over datasets.

    Args:
        scores: runs of one method, an array (R,) a dataset, on a common scale.
        thresholds: (T,) on the same scale.
    """
    t = np.asarray(thresholds, dtype=np.float64)
    above = [(np.asarray(s, dtype=np.float64).ravel()[:, None] > t).mean(axis=0) for s in scores]
    return np.asarray(np.mean(above, axis=0), dtype=np.float64)


def profile_band(
    scores: Sequence[ArrayLike], thresholds: ArrayLike, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the pointwise percentile band (T,), (T,) of `performance_profile` over stratified bootstrap samples."""
    t = np.asarray(thresholds, dtype=np.float64)
    above = [np.stack([(runs > x).mean(axis=1) for x in t], axis=1) for runs in _resampled(scores, draws, seed)]
    low, high = np.quantile(np.mean(above, axis=0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def against_baseline(
    runs: Mapping[str, Mapping[str, ArrayLike]], baseline: str, *, lower: Sequence[str] = ()
) -> dict[str, list[Floats]]:
    """Return the runs of each method on the common scale of all datasets: the baseline has mean 0, larger is better.

    Args:
        runs: dataset -> method -> scores (R,).
        baseline: the method that scores are relative to.
        lower: datasets on which smaller scores are better.

    Returns:
        Method -> an array a dataset: (score - mean of the baseline) / mean of the baseline, negated where smaller is
        better. Only methods that every dataset has.
    """
    methods = [m for m in next(iter(runs.values())) if all(m in own for own in runs.values())] if runs else []
    result: dict[str, list[Floats]] = {m: [] for m in methods}
    for dataset, own in runs.items():
        reference = float(np.mean(np.asarray(own[baseline], dtype=np.float64)))
        sign = -1.0 if dataset in lower else 1.0
        for method in methods:
            scores = np.asarray(own[method], dtype=np.float64)
            result[method].append(sign * (scores - reference) / abs(reference))
    return result
