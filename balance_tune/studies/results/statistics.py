"""Small-sample statistics of a study: t probabilities, Holm's correction, ranks and the Friedman test.

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

ROUNDING = 1e-12  # differences of accuracies that vary by less are equal up to rounding
MIN_METHODS, MIN_DATASETS = (
    3,
    5,
)  # below this a Friedman test has next to no power (Demšar, JMLR 7, 2006, section 3.2.2)


def t_p_value(t: ArrayLike, freedom: float) -> Floats:
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
