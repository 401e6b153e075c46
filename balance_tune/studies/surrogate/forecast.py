"""Final values of search trials; those of pruned trials are extrapolated from the gains of complete trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
    """The value of a trial's best epoch, known or extrapolated, and the standard deviation of the extrapolation."""

    params: Mapping[str, Any]
    value: float
    sd: float


def forecasts(courses: Iterable[Course]) -> list[Forecast]:
    """Return the final values of trials, extrapolated for pruned ones; trials without any value are left out.

    A pruned trial would have gained what the complete ones gained from its last epoch to their end, in the mean. The
    standard deviation of that gain is estimated from the same trials and counts as if two more of them had been off by
    half of it. A failed trial is as bad as the worst of the others.
    """
    courses = list(courses)
    complete = [c for c in courses if c.state == "complete" and c.curve]
    outcomes = [Forecast(c.params, max(c.curve), 0.0) for c in complete]
    pruned = [c for c in courses if c.state == "pruned" and c.curve]
    gains = {
        epochs: _gain([max(o.curve) - max(o.curve[:epochs]) for o in complete])
        for epochs in {len(c.curve) for c in pruned}
    }
    for c in pruned:
        gain, sd = gains[len(c.curve)]
        outcomes.append(Forecast(c.params, max(c.curve) + gain, sd))
    if not outcomes:
        return []
    worst = min(f.value for f in outcomes)
    return outcomes + [Forecast(c.params, worst, 0.0) for c in courses if c.state == "failed" and c.params]


def _gain(gains: Sequence[float]) -> tuple[float, float]:
    if not gains:
        return 0.0, 0.0
    mean = float(np.mean(gains))
    off = sum((gain - mean) ** 2 for gain in gains) + 2 * (mean / 2) ** 2
    return mean, float(np.sqrt(off / (len(gains) + 2)))


def standardised(outcomes: Sequence[Forecast]) -> tuple[Floats, Floats]:
    """Return targets with mean 0 and deviation 1, and the variances of their extrapolations, each (n,).

    Distances to the best value are taken on a log scale before: a search is about the good points, and one that is
    hopeless must not make the others look equal.
    """
    value, sd = np.array([f.value for f in outcomes]), np.array([f.sd for f in outcomes])
    gap = value.max() - value
    unit = float(np.median(gap)) or float(gap.max()) or 1.0
    log_gap = -np.log1p(gap / unit)
    scale = float(log_gap.std()) or 1.0
    return (log_gap - log_gap.mean()) / scale, (sd / (unit + gap) / scale) ** 2
