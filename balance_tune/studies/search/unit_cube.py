"""Points of a search space as numbers between 0 and 1, for samplers that need a distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.studies.protocol.space import Parameter, Space

Floats = NDArray[np.float64]


class UnitCube:
    """A search space seen as a unit cube, one dimension per parameter, log ranges on a log scale.

    A choice is one of equal parts of its dimension. `features` are what distances are computed from: numbers and
    choices among numbers stay one dimension; other choices have a dimension each, so that all are equally far apart.
    A parameter that a trial lacks (a conditional one, or one that the space did not have) counts as its default.
    """

    def __init__(self, space: Space) -> None:
        self._parameters = space.parameters
        self.dimensions = len(space.parameters)

    def to_unit(self, params: Mapping[str, Any]) -> Floats:
        """Return a point's place in the cube, (d,)."""
        return np.array([_to_unit(p, params.get(p.name, p.default)) for p in self._parameters])

    def from_unit(self, unit: Floats) -> dict[str, Any]:
        """Return the parameters at a place (d,) in the cube."""
        return {p.name: _from_unit(p, float(x)) for p, x in zip(self._parameters, unit, strict=True)}

    def features(self, units: Floats) -> Floats:
        """Return what the distances of points are computed from.

        Args:
            units: (n, d) places in the cube; those between two whole numbers or choices count as what they stand for.

        Returns:
            (n, f) with f >= d.
        """
        return np.hstack([_features(p, units[:, i]) for i, p in enumerate(self._parameters)])


def _features(p: Parameter, unit: Floats) -> Floats:
    """Return the columns (n, 1) or (n, choices) of one parameter."""
    if p.choices is not None:
        count = len(p.choices)
        chosen = np.minimum((unit * count).astype(int), count - 1)
        if _ordered(p):
            return (chosen[:, None] + 0.5) / count
        return math.sqrt(0.5) * (chosen[:, None] == np.arange(count))
    if p.kind == "int":
        low, high = _limits(p)
        value = np.clip(np.rint(low * (high / low) ** unit if p.log else low + unit * (high - low)), low, high)
        unit = np.log(value / low) / math.log(high / low) if p.log else (value - low) / (high - low)
    return unit[:, None]


def _ordered(p: Parameter) -> bool:
    return p.choices is not None and all(isinstance(c, int | float) and not isinstance(c, bool) for c in p.choices)


def _to_unit(p: Parameter, value: Any) -> float:
    if p.choices is not None:
        return (p.choices.index(value) + 0.5) / len(p.choices)
    low, high = _limits(p)
    unit = math.log(value / low) / math.log(high / low) if p.log else (value - low) / (high - low)
    return min(max(unit, 0.0), 1.0)


def _from_unit(p: Parameter, unit: float) -> Any:
    if p.choices is not None:
        return p.choices[min(int(unit * len(p.choices)), len(p.choices) - 1)]
    low, high = _limits(p)
    value = low * (high / low) ** unit if p.log else low + unit * (high - low)
    if p.kind == "int":
        low, high, value = math.ceil(low), math.floor(high), round(value)
    return min(max(value, low), high)


def _limits(p: Parameter) -> tuple[float, float]:
    """Return the ends of a range; each whole number is as wide as the others."""
    assert p.low is not None
    assert p.high is not None
    return (p.low - 0.5, p.high + 0.5) if p.kind == "int" else (p.low, p.high)
