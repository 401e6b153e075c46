"""How far a point is ahead of the default on validation, and how sure that is: the default stays unless clearly beaten.

A small validation part makes the best of several points look better than it is. With the lead d averaged over the
selection seeds, its standard error is

    SE^2 = var_i(mean over seeds of d_i) / U + 2 s^2 / n

where d_i is the difference on validation unit i (a row or a group, U of them), s^2 the variance over seeds within the
arm's points, pooled over them, and n the number of seeds. A term that is not known (one seed, no units) is left out.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance


@dataclass(frozen=True)
class Lead:
    """The lead of a point over the default: its mean, larger is better, and its standard error, None if unknown."""

    mean: float
    error: float | None

    def exceeds(self, margin: float) -> bool:
        """Return whether the lead is larger than `margin` standard errors; one without an error never is."""
        return margin == 0 or (self.error is not None and self.mean > margin * self.error)


def lead_of(
    best: str, default: str, values: Mapping[str, Sequence[float]], units: Mapping[str, Sequence[str | None]]
) -> Lead:
    """Return the lead of point `best` over point `default`.

    Args:
        best: key of the point.
        default: key of the default.
        values: point -> objective on each selection seed, larger is better.
        units: point -> what validation units contribute on each seed, as `training.jackknife.packed` stores it.
    """
    terms: list[float] = []
    rows = _row_variance(units[best], units[default])
    if rows is not None:
        terms.append(rows)
    several = [own for own in values.values() if len(own) > 1]
    if several:
        freedom = sum(len(own) - 1 for own in several)
        pooled = sum(variance(own) * (len(own) - 1) for own in several) / freedom
        terms.append(2 * pooled / len(values[default]))
    mean = fmean(values[best]) - fmean(values[default])
    return Lead(mean, math.sqrt(sum(terms)) if terms else None)


def _row_variance(ours: Sequence[str | None], theirs: Sequence[str | None]) -> float | None:
    """Return the variance that validation units give the mean difference; None where a trial has none."""
    texts = [(a, b) for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]
    if not texts or len(texts) < max(len(ours), len(theirs)):
        return None
    import numpy as np

    both = [[np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64) for text in pair] for pair in texts]
    difference = np.mean([a - b for a, b in both], axis=0)
    return float(difference.var(ddof=1)) / len(difference)
