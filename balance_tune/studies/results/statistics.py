"""Small-sample statistics of a study: paired intervals, Holm, test-set bootstrap, ranks, smallest visible effect.

Pure functions on numbers. They load `scipy.special` only (`scipy.stats` costs half a second to import).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
Interval = tuple[float, float]

ROUNDING = 1e-12  # differences of accuracies that vary by less than this are equal: only rounding tells them apart
MIN_METHODS, MIN_DATASETS = (
    3,
    5,
)  # below this a Friedman test has next to no power (Demšar, JMLR 7, 2006, section 3.2.2)


@dataclass(frozen=True)
class Paired:
    """A mean paired difference over `n` seeds; what cannot be known from so few seeds is None.

    One seed has a mean and nothing else. When every seed gives the same difference the t test is undefined: the
    interval is that one point and `p` comes from the exact sign-flip test, which cannot go below 2**(1 - n).
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    ci: Interval | None = None
    p: float | None = None


def paired_t(differences: ArrayLike, level: float = 0.95) -> Paired:
    """Return mean, sd, two-sided t interval and p-value of `differences` (n,), one a seed, in the unit of the input."""
    values = np.asarray(differences, dtype=np.float64).reshape(-1)
    n = len(values)
    if n == 0:
        return Paired(0)
    mean = float(values.mean())
    if n == 1:
        return Paired(1, mean)
    sd = float(values.std(ddof=1))
    if sd < ROUNDING:
        return Paired(n, mean, 0.0, (mean, mean), 1.0 if abs(mean) < ROUNDING else 2.0 ** (1 - n))
    error = sd / math.sqrt(n)
    half = t_quantile(n - 1, (1 + level) / 2) * error
    return Paired(n, mean, sd, (mean - half, mean + half), float(t_p_value(mean / error, n - 1)))


def t_quantile(freedom: int, probability: float) -> float:
    """Return the quantile of Student's t with `freedom` degrees of freedom."""
    return float(special.stdtrit(freedom, probability))


def t_p_value(t: ArrayLike, freedom: int) -> Floats:
    """Return two-sided p-values, any shape, of t statistics with `freedom` degrees of freedom."""
    return np.asarray(2 * special.stdtr(freedom, -np.abs(t)), dtype=np.float64)


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's step-down adjusted p-values (..., m) of each family of m along the last axis (Holm, 1979).

    Sorted p_(1) <= ... <= p_(m) become max over k <= i of min(1, (m - k + 1) p_(k)); reject where the result is at most
    the family-wise level. Valid under any dependence, so also for methods that share one baseline.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, axis=-1)
    steps = p.shape[-1] - np.arange(p.shape[-1])
    adjusted = np.maximum.accumulate(np.minimum(1.0, np.take_along_axis(p, order, -1) * steps), axis=-1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def smallest_detectable(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return the true mean difference a paired two-sided t test on `n` seeds finds with probability `power`.

    `sd` is that of the paired differences. Solves the noncentral t for its noncentrality; the far tail, below 1e-4 at
    such a power, is left out. None with fewer than two seeds or without variance: then the design says nothing.
    """
    if n < 2 or sd < ROUNDING:
        return None
    noncentrality = float(special.nctdtrinc(n - 1, 1 - power, t_quantile(n - 1, 1 - alpha / 2)))
    return float(noncentrality * sd / math.sqrt(n))


def bootstrap_mean(
    values: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Return the percentile interval of the mean of `values` (N,) over resampled test sets.

    With `groups` (N,) whole groups are drawn (a cluster bootstrap: people, not their windows, are the sample). None
    when fewer than two rows or groups exist. `values` may be correctness, its mean over seeds, or a difference of two.
    """
    x = np.asarray(values, dtype=np.float64)
    sums: Floats
    sizes: Floats
    if groups is None:
        # Few distinct values (hits over seeds): drawing how often each occurs is the same bootstrap at far less cost.
        distinct, counts = np.unique(x, return_counts=True)
        sums, sizes, chances = distinct, np.ones_like(distinct), counts / counts.sum()
        units = len(x)
    else:
        names, index = np.unique(np.asarray(groups), return_inverse=True)
        units = len(names)
        sums, sizes = (np.bincount(index, weights=w).astype(np.float64) for w in (x, np.ones_like(x)))
        chances = np.full(units, 1 / max(units, 1))
    if units < 2:
        return None
    generator = np.random.default_rng(seed)
    block = max(1, 4_000_000 // len(sums))
    means: list[Floats] = []
    for start in range(0, draws, block):
        weights = generator.multinomial(units, chances, size=min(block, draws - start))
        means.append((weights @ sums) / (weights @ sizes))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranks(scores: ArrayLike) -> Floats:
    """Return the ranks within each row of `scores` (datasets, methods): 1 is the highest, ties share a mean."""
    x = np.asarray(scores, dtype=np.float64)
    above = (x[:, None, :] > x[:, :, None]).sum(-1)
    equal = (x[:, None, :] == x[:, :, None]).sum(-1)
    return np.asarray(1 + above + (equal - 1) / 2, dtype=np.float64)


@dataclass(frozen=True)
class Friedman:
    """Average ranks (methods,), and the test that they are all equal: None where there is too little to test."""

    average_ranks: Floats
    datasets: int
    statistic: float | None
    p: float | None


def friedman(scores: ArrayLike) -> Friedman:
    """Return average ranks of `scores` (datasets, methods) and, with enough of both, the Friedman test of equal ranks.

    The tie-corrected Friedman statistic is turned into Iman and Davenport's F (Conover, 1999, section 5.8), which
    Demšar (2006) prefers because the chi-squared form is too timid with few datasets. Needs at least `MIN_METHODS`
    methods and `MIN_DATASETS` datasets; ranks are given in any case.
    """
    r = ranks(scores)
    n, k = r.shape
    if k < MIN_METHODS or n < MIN_DATASETS:
        return Friedman(r.mean(axis=0), n, None, None)
    spread = float((r**2).sum() - n * k * (k + 1) ** 2 / 4)
    if spread < ROUNDING:  # all methods tie on every dataset
        return Friedman(r.mean(axis=0), n, 0.0, 1.0)
    chi = float((k - 1) * ((r.sum(axis=0) - n * (k + 1) / 2) ** 2).sum() / spread)
    if n * (k - 1) - chi < ROUNDING:  # the same order everywhere: F is infinite, the permutation probability is exact
        return Friedman(r.mean(axis=0), n, chi, float(math.factorial(k) ** -(n - 1)))
    f = (n - 1) * chi / (n * (k - 1) - chi)
    return Friedman(r.mean(axis=0), n, chi, float(special.fdtrc(k - 1, (n - 1) * (k - 1), f)))


def mean_of(values: list[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return float(np.mean(values)) if values else None


def sd_of(values: list[float]) -> float | None:
    """Return the sample standard deviation, or None with fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
