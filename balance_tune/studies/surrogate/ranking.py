"""What the points of a search are expected to give, by a model of all of its trials instead of one lucky epoch each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from balance_tune.studies.storage.records import Range, TrialRecord
from balance_tune.tasks import Objective

LEAST, MOST = 4, 200  # trials between which there is a model: fewer say too little, more take too long
DIGITS = 6  # of a mean; what lies beyond may differ between machines

_Row = tuple[tuple[tuple[str, Any], ...], str, tuple[float, ...]]


def expected_values(records: Sequence[TrialRecord], objective: Objective) -> dict[int, float]:
    """Return search trial -> the posterior mean of the objective at its point, in standard units; larger is better.

    Empty where there is no model: too few or too many trials, or records that do not hold what was searched.

    Args:
        records: the search trials of one arm.
        objective: what their curves are of.
    """
    finished = [r for r in records if r.finished and r.params and r.space and not r.superseded]
    usable = [r for r in finished if r.state != "failed" and r.curve]
    if not LEAST <= len(usable) <= len(finished) <= MOST:
        return {}
    default = next((r.params for r in finished if r.attrs.get("default")), usable[0].params)
    rows = tuple(_row(r, objective) for r in finished)
    means = _means(rows, tuple(sorted(usable[0].space.items())), tuple(sorted(default.items())))
    return {r.number: mean for r, mean in zip(finished, means, strict=True)}


def _row(record: TrialRecord, objective: Objective) -> _Row:
    values = (record.curve[epoch] for epoch in sorted(record.curve))
    curve = tuple(objective.gain(value) for value in values if math.isfinite(value))
    return tuple(sorted(record.params.items())), record.state, curve


@lru_cache(maxsize=256)
def _means(
    rows: tuple[_Row, ...], space: tuple[tuple[str, Range], ...], default: tuple[tuple[str, Any], ...]
) -> tuple[float, ...]:
    import numpy as np  # here, so that a command that only reads records starts quickly

    from balance_tune.studies.surrogate.forecast import Course, forecasts, standardised
    from balance_tune.studies.surrogate.gaussian_process import GaussianProcess, Observations
    from balance_tune.studies.surrogate.unit_cube import UnitCube

    cube = UnitCube(dict(space), dict(default))
    known = forecasts(Course(dict(params), state, curve) for params, state, curve in rows)
    seen = Observations(cube.features(cube.units([f.params for f in known])), *standardised(known))
    centre = cube.features(cube.units([dict(default)]))[0]
    model = GaussianProcess(seen, centre, np.random.default_rng(0))
    means = model.mean(cube.features(cube.units([dict(params) for params, _, _ in rows])))
    return tuple(round(float(mean), DIGITS) for mean in means)
