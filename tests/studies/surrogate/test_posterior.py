"""How good points are by all trainings."""

from __future__ import annotations

import numpy as np
import pytest

from balance_tune.studies.storage.records import Range
from balance_tune.studies.surrogate import posterior
from balance_tune.studies.surrogate.forecast import Outcome
from balance_tune.studies.surrogate.posterior import posterior_means

RANGES = {"x": Range(0.0, 1.0), "kind": Range(choices=("a", "b", "c"))}
DEFAULT = {"x": 0.5, "kind": "a"}


def point(x: float, kind: str = "a") -> dict[str, object]:
    return {"x": x, "kind": kind}


def test_a_point_is_as_good_as_its_trainings_and_those_about_it() -> None:
    known = [Outcome(point(x), 1 - (x - 0.7) ** 2) for x in np.linspace(0, 1, 11).tolist()]
    means = posterior_means(RANGES, DEFAULT, known, [point(0.1), point(0.45), point(0.72)])
    assert means == sorted(means)


def test_repeated_trainings_count_more_than_one_lucky_training() -> None:
    lucky = [Outcome(point(0.1), 0.8, seed=1), Outcome(point(0.12), 0.5), Outcome(point(0.08), 0.5)]
    steady = [Outcome(point(0.9), 0.75, seed=s) for s in (1, 2, 3)]
    means = posterior_means(RANGES, DEFAULT, [Outcome(DEFAULT, 0.6), *lucky, *steady], [point(0.1), point(0.9)])
    assert means[1] > means[0]


def test_it_is_computed_once_for_the_same_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Outcome(point(0.1, kind), 0.31 + i) for i, kind in enumerate("abc")]
    first = posterior_means(RANGES, DEFAULT, known, [point(0.2), point(0.4)])
    monkeypatch.setattr(posterior, "GaussianProcess", None)
    assert posterior_means(RANGES, DEFAULT, known, [point(0.2), point(0.4)]) == first
    with pytest.raises(TypeError):
        posterior_means(RANGES, DEFAULT, known[1:], [point(0.2), point(0.4)])
