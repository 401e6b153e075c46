"""Points of a search space as numbers between 0 and 1, for samplers that need a distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.studies.storage.records import Range

Floats = NDArray[np.float64]


class UnitCube:
    """A search space seen as a unit cube, one dimension per parameter, log ranges on a log scale.

    A choice is one of equal parts of its dimension. `features` are what distances are computed from: numbers and
    choices among numbers stay one dimension; other choices have a dimension each, so that all are equally far apart.
    A parameter that a trial lacks (a conditional one, or one that the space did not have) counts as its default.

    Args:
        ranges: parameter -> what it is searched over.
        defaults: parameter -> its default.
    """

    def __init__(self, ranges: Mapping[str, Range], defaults: Mapping[str, Any]) -> None:
        self._ranges, self._defaults = dict(ranges), defaults
        self.dimensions = len(self._ranges)

    def units(self, points: Sequence[Mapping[str, Any]]) -> Floats:
        """Return the places (n, d) of points in the cube."""
        rows = [
            [_to_unit(r, point.get(name, self._defaults[name])) for name, r in self._ranges.items()] for point in points
        ]
        return np.array(rows).reshape(-1, self.dimensions)

    def point(self, unit: Floats) -> dict[str, Any]:
        """Return the parameters at a place (d,) in the cube."""
        return {name: _from_unit(r, float(x)) for (name, r), x in zip(self._ranges.items(), unit, strict=True)}

    def features(self, units: Floats) -> Floats:
        """Return what the distances of points are computed from.

        Args:
            units: (n, d) places in the cube; those between two whole numbers or choices count as what they stand for.

        Returns:
            (n, f) with f >= d.
        """
        return np.hstack([_features(r, units[:, i]) for i, r in enumerate(self._ranges.values())])


def _features(r: Range, unit: Floats) -> Floats:
    """Return the columns (n, 1) or (n, choices) of one parameter."""
    if r.choices is not None:
        count = len(r.choices)
        chosen = np.minimum((unit * count).astype(int), count - 1)
        if not _ordered(r):
            return np.where(chosen[:, None] == np.arange(count), math.sqrt(0.5), 0.0)
        unit = (chosen + 0.5) / count
    elif r.integer:
        low, high = _limits(r)
        value = np.clip(np.rint(low * (high / low) ** unit if r.log else low + unit * (high - low)), low, high)
        unit = np.log(value / low) / math.log(high / low) if r.log else (value - low) / (high - low)
    return unit[:, None]


def _ordered(r: Range) -> bool:
    return r.choices is not None and all(isinstance(c, int | float) and not isinstance(c, bool) for c in r.choices)


def _to_unit(r: Range, value: Any) -> float:
    if r.choices is not None:
        return (r.choices.index(value) + 0.5) / len(r.choices)
    low, high = _limits(r)
    unit = math.log(value / low) / math.log(high / low) if r.log else (value - low) / (high - low)
    return min(max(unit, 0.0), 1.0)


def _from_unit(r: Range, unit: float) -> Any:
    if r.choices is not None:
        return r.choices[min(int(unit * len(r.choices)), len(r.choices) - 1)]
    low, high = _limits(r)
    value = low * (high / low) ** unit if r.log else low + unit * (high - low)
    if r.integer:
        low, high, value = math.ceil(low), math.floor(high), round(value)
    return min(max(value, low), high)


def _limits(r: Range) -> tuple[float, float]:
    """Return the ends of a range; each whole number is as wide as the others."""
    assert r.low is not None
    assert r.high is not None
    return (r.low - 0.5, r.high + 0.5) if r.integer else (r.low, r.high)
