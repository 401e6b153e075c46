"""How good points are by all trainings of an arm, of the search and of selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.studies.storage.records import Range
from balance_tune.studies.surrogate.forecast import Outcome, standardised
from balance_tune.studies.surrogate.gaussian_process import GaussianProcess, Observations
from balance_tune.studies.surrogate.unit_cube import UnitCube

Floats = NDArray[np.float64]

CACHED = 4096  # posteriors: a report asks for those of each arm and replicate several times


def posterior_means(
    ranges: Mapping[str, Range],
    default: Mapping[str, Any],
    results: Sequence[Outcome],
    points: Sequence[Mapping[str, Any]],
) -> list[float]:
    """Return how good points are: the posterior mean of a Gaussian process, larger is better, in no unit.

    Args:
        ranges: parameter -> what it was searched over.
        default: the default point, about which points are believed to be good.
        results: outcomes of trainings; at least one.
        points: the points.
    """
    cube = UnitCube(ranges, default)
    x, at, centre = (cube.features(cube.units(own)) for own in ([o.params for o in results], points, [default]))
    y, variance = standardised(results)
    seeds = np.array([-1 if o.seed is None else o.seed for o in results], dtype=np.int64)
    arrays = [x, at, centre, y, variance]
    return list(_means(x.shape[1], seeds.tobytes(), *(a.tobytes() for a in arrays)))


@lru_cache(maxsize=CACHED)
def _means(features: int, seeds: bytes, *arrays: bytes) -> tuple[float, ...]:
    x, at, centre, y, variance = (np.frombuffer(a) for a in arrays)
    data = Observations(x.reshape(-1, features), y, variance, np.frombuffer(seeds, dtype=np.int64))
    model = GaussianProcess(data, centre, np.random.default_rng(0))
    return tuple(model.mean(at.reshape(-1, features)).tolist())
