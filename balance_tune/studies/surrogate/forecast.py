"""Final values of search trials; those of pruned trials are extrapolated from how complete trials caught up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REMAINING, PRIOR_TRIALS = 0.3, 2  # share of its gap that a trial keeps, before complete trials say; what that weighs
SPREAD = 0.5  # standard deviation of that share from trial to trial, relative to it


@dataclass(frozen=True)
class Course:
    """How a finished search trial went.

    Attributes:
        params: its point.
        state: "complete", "pruned" or "failed".
        curve: the objective epoch by epoch; larger is better.
    """

    params: Mapping[str, Any]
    state: str
    curve: Sequence[float]


@dataclass(frozen=True)
class Forecast:
    """The value of a trial's best epoch, known or extrapolated.

    Attributes:
        params: its point.
        value: larger is better.
        sd: standard deviation of the extrapolation; 0 where the value is known.
    """

    params: Mapping[str, Any]
    value: float
    sd: float = 0.0


def forecasts(courses: Iterable[Course]) -> list[Forecast]:
    """Return the final values of trials, extrapolated for pruned ones; trials without any value are left out.

    Learning curves converge: a trial that is behind the best final value by some gap is behind by a share of that gap
    when it ends. The share follows from the complete trials, each of which had a gap after the same number of epochs
    and has one now. A failed trial is as bad as the worst of the others.
    """
    courses = list(courses)
    complete = [c.curve for c in courses if c.state == "complete" and c.curve]
    pruned = [c for c in courses if c.state == "pruned" and c.curve]
    if not complete and not pruned:
        return []
    top = max(max(curve) for curve in complete or [c.curve for c in pruned])
    shares = {epochs: _remaining(complete, epochs, top) for epochs in {len(c.curve) for c in pruned}}
    outcomes = [Forecast(c.params, max(c.curve)) for c in courses if c.state == "complete" and c.curve]
    for c in pruned:
        share, error = shares[len(c.curve)]
        gap = max(0.0, top - max(c.curve))
        value = max(max(c.curve), top - share * gap)
        outcomes.append(Forecast(c.params, value, float(np.hypot(error, SPREAD * share * gap))))
    worst = min(o.value for o in outcomes)
    return outcomes + [Forecast(c.params, worst) for c in courses if c.state == "failed" and c.params]


def _remaining(curves: Sequence[Sequence[float]], epochs: int, top: float) -> tuple[float, float]:
    """Return the share of its gap after so many epochs that a trial keeps, and the deviation of its final value."""
    before = np.array([top - max(curve[:epochs]) for curve in curves])
    after = np.array([top - max(curve) for curve in curves])
    if not before.sum() > 0:
        return REMAINING, 0.0
    weight = len(curves) + PRIOR_TRIALS
    share = (len(curves) * after.sum() / before.sum() + PRIOR_TRIALS * REMAINING) / weight
    return share, float(np.sqrt(((after - share * before) ** 2).sum() / weight))


def standardised(outcomes: Sequence[Forecast]) -> tuple[Floats, Floats]:
    """Return targets with mean 0 and deviation 1, and the variances of their extrapolations, each (n,).

    Distances to the best value are taken on a log scale before: a search is about the good points, and one that is
    hopeless must not make the others look equal.
    """
    value, sd = np.array([o.value for o in outcomes]), np.array([o.sd for o in outcomes])
    gap = value.max() - value
    unit = float(np.median(gap)) or float(gap.max()) or 1.0
    log_gap = -np.log1p(gap / unit)
    scale = float(log_gap.std()) or 1.0
    return (log_gap - log_gap.mean()) / scale, (sd / (unit + gap) / scale) ** 2
