"""The verdict on every arm of one dataset against the baseline: better, equivalent, worse or undecided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from balance_tune.studies.results.inference import Comparison, Estimate
from balance_tune.studies.results.statistics import ROUNDING, holm

ALPHA = 0.05
LARGE = 100.0  # critical value of t
Outcome = Literal["better", "equivalent", "worse", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison with the baseline within its family (the methods of one dataset).

    Attributes:
        p: two-sided p-value of the typical difference, adjusted for the number of looks.
        p_holm: `p` adjusted for the family by Holm's method.
        p_with_failures: the same as `p_holm`, but failed runs score as the worst and collapsed runs as measured, of the
            arm in whose favour the typical difference is. Equal to `p_holm` where that arm's runs are all sound.
        p_equivalence: Holm-adjusted p-value of "the difference is outside the margin"; None without a margin.
        mde: smallest true difference that the design finds with 80 % power at 5 %; `mde_holm`: at Holm's first step.
        outcome: the verdict.
        blocked: the typical difference is significant, but the verdict does not hold with failed and collapsed runs.
        with_failures: the estimate behind `p_with_failures`.
    """

    p: float | None
    p_holm: float | None
    p_with_failures: float | None
    p_equivalence: float | None
    mde: float | None
    mde_holm: float | None
    outcome: Outcome
    blocked: bool
    with_failures: Estimate


def looks_factor(looks: int) -> int:
    """Return the factor of a p-value at the `looks`-th look at a growing study: 1, then k (k + 1).

    A look is a verdict shown before replicates were added. The first look keeps its 5 %. The k-th later one may spend
    5 % / (k (k + 1)); these add up to less than 2.5 % however many follow. As the looks share data, the share of
    studies without a difference in which any look finds one stays below 6 % (measured in benchmarks/CALIBRATION.md).
    """
    if looks < 1:
        raise ValueError(f"`looks >= 1` must hold, but got {looks=}.")
    return 1 if looks == 1 else looks * (looks + 1)


def interval_level(looks: int = 1) -> float:
    """Return the level of the interval that excludes zero exactly where the p-value adjusted for looks is below 5 %."""
    return 1 - ALPHA / looks_factor(looks)


def verdicts(
    comparisons: Sequence[Comparison],
    *,
    lower: bool = False,
    looks: int = 1,
    equivalence: float | None = None,
    span: float | None = None,
) -> list[Verdict]:
    """Return the verdict on each rival of one dataset, a family under Holm's correction.

    A method without a p-value yet counts as 1, so that a significant result stays significant when the others come.

    Args:
        comparisons: rival minus baseline, as `inference.compare` returns them.
        lower: whether smaller scores are better.
        looks: how often a verdict on this study was shown, this time included.
        equivalence: differences up to this, in the unit of the metric, are of no practical importance.
        span: largest difference that the metric allows; no larger one is named as detectable.
    """
    factor, size = looks_factor(looks), max(len(comparisons), 1)
    sign = -1 if lower else 1
    typical = [c.typical for c in comparisons]
    ps = [None if e.p is None else min(1.0, factor * e.p) for e in typical]
    p_holm = _holm(ps)
    with_failures = [_claim(c, sign) for c in comparisons]
    strict = _holm([None if e is None or e.p is None else min(1.0, factor * e.p) for e in with_failures])
    equal = _holm([_outside(c, equivalence, factor) for c in comparisons])
    result = []
    for e, claim, p, q, q_strict, q_equal in zip(typical, with_failures, ps, p_holm, strict, equal, strict=True):
        differs = q is not None and q < ALPHA
        same_way = claim is not None and (claim.mean or 0.0) * (e.mean or 0.0) > 0
        holds = differs and same_way and q_strict is not None and q_strict < ALPHA
        outcome: Outcome = "undecided"
        if q_equal is not None and q_equal < ALPHA:
            outcome = "equivalent"
        elif holds:
            outcome = "better" if sign * (e.mean or 0.0) > 0 else "worse"
        mde = smallest_detectable(e, alpha=ALPHA / factor, span=span)
        mde_holm = smallest_detectable(e, alpha=ALPHA / factor / size, span=span)
        result.append(
            Verdict(
                p, q, q_strict, q_equal, mde, mde_holm, outcome, differs and not holds, e if claim is None else claim
            )
        )
    return result


def smallest_detectable(
    result: Estimate, power: float = 0.8, alpha: float = ALPHA, span: float | None = None
) -> float | None:
    """Return the true mean difference that a two-sided t test with this standard error finds with probability `power`.

    Solves the noncentral t for its noncentrality; the far tail, below 1e-4 at such a power, is left out. From a
    critical value of `LARGE` on, the normal part of t is small beside the noncentrality and is left out. None where the
    design gives no such difference: fewer than two replicates, no variance, or one beyond the metric's span.
    """
    if result.error is None or result.freedom is None or result.error < ROUNDING:
        return None
    freedom = result.freedom
    critical = float(special.stdtrit(freedom, 1 - alpha / 2))
    if critical < LARGE:
        noncentrality = float(special.nctdtrinc(freedom, 1 - power, critical))
    else:  # scipy's takes minutes there
        noncentrality = critical * math.sqrt(special.chdtri(freedom, 1 - power) / freedom)
    size = noncentrality * result.error
    return size if np.isfinite(size) and (span is None or size <= span) else None


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    adjusted = holm([1.0 if p is None else p for p in p_values])
    return [None if p is None else float(q) for p, q in zip(p_values, adjusted, strict=True)]


def _claim(comparison: Comparison, sign: int) -> Estimate | None:
    """Return the estimate with the failed and collapsed runs of the arm that the typical difference favours."""
    mean = comparison.typical.mean
    if mean is None:
        return None
    strict = comparison.against if sign * mean > 0 else comparison.in_favour
    return comparison.typical if strict is None else strict


def _outside(comparison: Comparison, margin: float | None, factor: int) -> float | None:
    """Return the p-value of two one-sided tests (Schuirmann, 1987) that the difference lies outside +-margin."""
    estimates = [e for e in (comparison.typical, comparison.against, comparison.in_favour) if e is not None]
    if margin is None or any(e.p is None for e in estimates):
        return None
    return min(1.0, factor * max(_two_one_sided(e, margin) for e in estimates))


def _two_one_sided(result: Estimate, margin: float) -> float:
    assert result.mean is not None
    assert result.error is not None
    distance = margin - abs(result.mean)
    if result.error < ROUNDING:
        return 2.0 ** (1 - result.n) if distance > 0 else 1.0
    tail: Callable[[float, float], float] = special.stdtr
    return float(tail(result.freedom or 1.0, -distance / result.error))
