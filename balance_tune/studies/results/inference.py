"""The uncertainty of a comparison of two arms: replicates and test rows together, and runs that failed or collapsed.

A replicate is an independent repetition of everything that chance affects (split, search, training seeds). Two arms are
paired within a replicate. Every function is pure; differences keep the unit of the metric.

Model of a difference on replicate r and test unit i (a row, or a group of rows), crossed random effects:

    d_ri = mu + a_r + b_i + e_ri

mu is the difference of the means over replicates and over the population that the test rows are drawn from. With the
mean squares of the two-way table, MS_R (replicates), MS_U (units) and MS_E (interaction),

    Var(mean d) = (MS_R + max(0, MS_U - MS_E)) / (R U),

and the degrees of freedom are Satterthwaite's, but not fewer than the R - 1 of replicates alone: of a difference of
mean squares that are nearly equal they would go to zero. Without values per unit the second term is left out, and what
remains is the paired t interval. docs/protocol.md explains the choice, benchmarks/calibration.py measures the error
rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from balance_tune.studies.results.statistics import ROUNDING, Floats, Interval, t_p_value

Bools = NDArray[np.bool_]

COLLAPSE = 6.0  # robust standard deviations below its arm's median at which a run counts as collapsed
LEAST_RUNS = 4  # finished runs of an arm that are needed to tell a collapse from a bad seed


@dataclass(frozen=True)
class Runs:
    """The runs of one arm, one entry per replicate, in the same order for every arm.

    Attributes:
        scores: (R,) the metric on the sealed test part; NaN where the run failed.
        units: (R, U) values of each test unit whose mean over units is the score (hits, errors, or the pseudo-values of
            `pseudo_values`), or None where they are not known. Rows of failed runs are not read.
    """

    scores: Floats
    units: Floats | None = None

    def __post_init__(self) -> None:
        if self.units is not None and self.units.shape[:1] != self.scores.shape:
            raise ValueError(
                f"one row of units a replicate is needed, but got {self.units.shape=} {self.scores.shape=}"
            )

    @property
    def failed(self) -> Bools:
        """Which runs have no score."""
        return ~np.isfinite(self.scores)


@dataclass(frozen=True)
class Estimate:
    """A mean difference over `n` replicates with its interval; values that need more replicates are None.

    Attributes:
        n: pairs of runs the estimate rests on.
        mean: mean difference.
        sd: standard deviation of the difference over replicates.
        error: standard error of `mean`, over replicates and test units.
        freedom: degrees of freedom of `error`.
        ci: two-sided interval of `mean`.
        p: two-sided p-value of a difference of zero.
        row_share: share of the variance of `mean` that is due to the finite test part.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    error: float | None = None
    freedom: float | None = None
    ci: Interval | None = None
    p: float | None = None
    row_share: float | None = None


def estimate(differences: ArrayLike, units: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Return the mean of paired differences with the interval of the crossed model.

    Args:
        differences: (R,) one a replicate, in the unit of the metric.
        units: (R, U) the same differences unit by unit, or None: then only replicates count as random.
        level: of the interval.

    Returns:
        The estimate. With equal differences on all replicates and no row variance the t test is undefined: the interval
        is one point. There `p` is the sign-flip test's, 2**(1 - n), below which it never falls for equal differences.
    """
    d = np.asarray(differences, dtype=np.float64).reshape(-1)
    n = len(d)
    if n == 0:
        return Estimate(0)
    mean = float(d.mean())
    if n == 1:
        return Estimate(1, mean)
    sd = float(d.std(ddof=1))
    replicates, rows, freedom = sd**2 / n, 0.0, float(n - 1)
    if units is not None and np.shape(units)[1] > 1:
        rows, freedom = _rows_too(replicates, np.asarray(units, dtype=np.float64))
    error = math.sqrt(replicates + rows)
    if error < ROUNDING:
        p = 1.0 if abs(mean) < ROUNDING else 2.0 ** (1 - n)
        return Estimate(n, mean, sd, error, freedom, (mean, mean), p, 0.0)
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    p = float(t_p_value(mean / error, freedom))
    if sd < ROUNDING:
        p = max(p, 2.0 ** (1 - n))
    return Estimate(n, mean, sd, error, freedom, (mean - half, mean + half), p, rows / error**2)


def _rows_too(replicates: float, units: Floats) -> tuple[float, float]:
    """Return the variance of the mean difference that test units add, and the degrees of freedom of all of it.

    Args:
        replicates: the variance that replicates give, MS_R / (R U).
        units: (R, U) differences.
    """
    r, u = units.shape
    by_unit = units.mean(axis=0)
    centred = by_unit - by_unit.mean()
    between = float(centred @ centred)
    rest = (
        float(np.square(units - units.mean(axis=1, keepdims=True)).sum()) - r * between
    )  # sum of squares, interaction
    ms_units = between / (u * (u - 1))  # every term divided by R U
    ms_rest = max(rest, 0.0) / ((r - 1) * (u - 1) * r * u)
    excess = max(ms_units - ms_rest, 0.0)
    terms = replicates**2 / (r - 1) + ms_units**2 / (u - 1) + ms_rest**2 / ((r - 1) * (u - 1))
    satterthwaite = (replicates + excess) ** 2 / terms if excess > 0 else 0.0
    return excess, max(satterthwaite, r - 1.0)


def pseudo_values(score: float, without: ArrayLike) -> Floats:
    """Return jackknife pseudo-values (U,) U T - (U - 1) T_(-i): what the units of a metric that is not a mean would be.

    Their mean is the metric with its bias of order 1/U removed, their variance U times the metric's (Tukey, 1958). Of a
    metric that is a mean over units they are the units' own values.

    Args:
        score: the metric T on all test units.
        without: (U,) the metric without each unit.
    """
    rest = np.asarray(without, dtype=np.float64)
    return np.asarray(len(rest) * score - (len(rest) - 1) * rest, dtype=np.float64)


def collapsed(scores: ArrayLike, *, lower: bool = False, resolution: float = 0.0) -> Bools:
    """Return which runs (A, R) collapsed: worse than their arm's median by more than `COLLAPSE` robust deviations.

    The scale is the larger of the arm's own and of all arms' median absolute deviation from the arm's median, times
    1.4826 (the standard deviation of normal values), so that neither a noisy arm nor one that is still by luck has its
    ordinary runs taken for collapses. Failed runs (NaN) are not collapsed. Arms with fewer than `LEAST_RUNS` finished
    runs have none.

    Args:
        scores: (A, R) scores of the arms of one dataset.
        lower: whether smaller scores are better.
        resolution: smallest scale, in the unit of the metric: that of one test row.
    """
    x = np.asarray(scores, dtype=np.float64)
    x = -x if lower else x
    is_finite = np.isfinite(x)
    enough = is_finite.sum(axis=-1) >= LEAST_RUNS
    result = np.zeros(x.shape, dtype=bool)
    if not enough.any():
        return result
    deviation = x[enough] - np.nanmedian(x[enough], axis=-1, keepdims=True)
    own = np.nanmedian(np.abs(deviation), axis=-1)
    scale = 1.4826 * np.maximum(np.maximum(own, np.nanmedian(np.abs(deviation))), resolution)
    threshold = np.where(scale > ROUNDING, -COLLAPSE * scale, -np.inf)
    result[enough] = np.nan_to_num(deviation, nan=0.0) < threshold[:, None]
    return result


@dataclass(frozen=True)
class Comparison:
    """Two arms, paired within replicates.

    Attributes:
        typical: the difference over replicates in which neither run failed or collapsed. The headline.
        against: the same for the claim that ours is better, its failed runs scored as the worst and its collapsed runs
            as measured. None where our runs are all sound; then nothing can be held against `typical`.
        in_favour: the same for the claim that ours is worse, with the other arm's failed and collapsed runs.
    """

    typical: Estimate
    against: Estimate | None
    in_favour: Estimate | None


def compare(
    ours: Runs,
    theirs: Runs,
    *,
    worst: float | None = None,
    lower: bool = False,
    level: float = 0.95,
    bad: tuple[Bools, Bools] | None = None,
) -> Comparison:
    """Return the difference ours - theirs.

    Args:
        ours: runs of one arm.
        theirs: runs of the other, in the same replicates and on the same test units.
        worst: the score of a failed run; None: the worst score of a finished run of the two.
        lower: whether smaller scores are better.
        level: of the intervals.
        bad: which runs (R,) of the two arms collapsed, as `collapsed` says of all arms of a dataset; None: computed
            from these two.
    """
    scores = np.stack([ours.scores, theirs.scores]).astype(np.float64)
    units = None if ours.units is None or theirs.units is None else ours.units - theirs.units
    if bad is None:
        collapses = collapsed(scores, lower=lower, resolution=0.0 if units is None else 1 / units.shape[1])
    else:
        collapses = np.stack(bad)
    failures = ~np.isfinite(scores)
    sound = ~(failures | collapses)
    pairs = sound.all(axis=0)
    finite = scores[~failures]
    if worst is None:
        worst = float((finite.max if lower else finite.min)()) if len(finite) else 0.0

    def over(keep: Any, values: Floats, with_units: bool) -> Estimate:
        unit_differences = None if units is None or not with_units else units[keep]
        return estimate((values[0] - values[1])[keep], unit_differences, level)

    complete = np.where(failures, worst, scores)
    return Comparison(
        typical=over(pairs, scores, True),
        against=None if sound[0].all() else over(sound[1], complete, not failures[0].any()),
        in_favour=None if sound[1].all() else over(sound[0], complete, not failures[1].any()),
    )


def probability_of_improvement(
    ours: ArrayLike, theirs: ArrayLike, *, lower: bool = False, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, Interval] | None:
    """Return P(X > Y) of a run of ours against a run of theirs, and its percentile interval over resampled replicates.

    As rliable defines it (Agarwal et al., NeurIPS 2021): the mean over all pairs of runs of 1 where ours is better and
    1/2 where both are equal. Replicates are resampled whole, because arms are paired in them. None of no runs.

    Args:
        ours: (R,) finished scores.
        theirs: (R,) those of the other arm in the same replicates.
        lower: whether smaller scores are better.
        draws: bootstrap samples.
        level: of the interval.
        seed: of the bootstrap.
    """
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if len(x) == 0:
        return None
    ahead = x[:, None] < y if lower else x[:, None] > y
    wins = ahead + 0.5 * (x[:, None] == y)
    counts = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
    sampled = np.einsum("bi,ij,bj->b", counts, wins, counts, optimize=True) / len(x) ** 2
    low, high = np.quantile(sampled, [(1 - level) / 2, (1 + level) / 2])
    return float(wins.mean()), (float(low), float(high))
