"""Points of a search space as places in the unit cube, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from balance_tune.studies.protocol.space import Parameter, Space
from balance_tune.studies.surrogate.unit_cube import UnitCube

LR = Parameter("lr", "float", 0.001, 1.0, True, None, 0.1, "")
X = Parameter("x", "float", -1.0, 3.0, False, None, 0.0, "")
COUNT = Parameter("count", "int", 1, 4, False, None, 2, "")
ROWS = Parameter("rows", "int", 16, 256, True, None, 64, "")
MODE = Parameter("mode", "categorical", None, None, False, ("a", "b", "c"), "a", "")
START = Parameter("start", "categorical", None, None, False, (0.0, 0.05, 0.1), 0.05, "")
FLAG = Parameter("flag", "categorical", None, None, False, (True, False), True, "")
SPACE = Space((LR, X, COUNT, ROWS, MODE, START, FLAG), {})
CUBE = UnitCube(SPACE.ranges(), SPACE.defaults())
POINT = {"lr": 0.01, "x": 1.0, "count": 3, "rows": 64, "mode": "c", "start": 0.1, "flag": False}


def test_a_point_has_its_place_on_the_scale_of_each_parameter() -> None:
    lr, x, count, rows, mode, start, flag = CUBE.units([POINT])[0]
    assert (lr, x) == pytest.approx((1 / 3, 0.5))
    assert (count, rows) == pytest.approx((5 / 8, np.log(64 / 15.5) / np.log(256.5 / 15.5)))
    assert (mode, start, flag) == pytest.approx((5 / 6, 5 / 6, 3 / 4))


def test_a_place_and_back_is_the_same_point() -> None:
    for unit in np.random.default_rng(0).random((50, 7)):
        point = CUBE.point(unit)
        again = CUBE.point(CUBE.units([point])[0])
        assert again.pop("lr") == pytest.approx(point.pop("lr"))
        assert again.pop("x") == pytest.approx(point.pop("x"))
        assert again == point


def test_every_value_is_as_likely_as_the_others_and_none_is_outside() -> None:
    drawn = [CUBE.point(unit) for unit in np.random.default_rng(0).random((4000, 7))]
    for name, values in (("count", [1, 2, 3, 4]), ("mode", ["a", "b", "c"])):
        shares = [sum(point[name] == value for point in drawn) / 4000 for value in values]
        assert shares == pytest.approx([1 / len(values)] * len(values), abs=0.03)
    corners = [CUBE.point(np.zeros(7)), CUBE.point(np.ones(7))]
    assert [(c["lr"], c["x"], c["count"], c["rows"], c["mode"]) for c in corners] == [
        (0.001, -1.0, 1, 16, "a"),
        (1.0, 3.0, 4, 256, "c"),
    ]
    assert all(type(point["count"]) is int and type(point["lr"]) is float for point in drawn)


def features(point: Mapping[str, Any]) -> NDArray[np.float64]:
    return CUBE.features(CUBE.units([point]))[0]


def test_words_are_equally_far_apart_and_numbers_in_their_order() -> None:
    def apart(**other: object) -> float:
        return float(np.linalg.norm(features(POINT) - features({**POINT, **other})))

    assert apart(mode="a") == pytest.approx(1.0) == apart(mode="b")
    assert apart(start=0.0) > apart(start=0.05) > 0
    assert apart(flag=True) == pytest.approx(1.0)
    assert apart() == 0


def test_places_that_stand_for_one_point_have_the_same_features() -> None:
    units = np.random.default_rng(0).random((50, 7))
    again = np.array([features(CUBE.point(unit)) for unit in units])
    assert CUBE.features(units) == pytest.approx(again)
    assert CUBE.features(units).shape == (50, 7 + 2 + 1)


def test_a_parameter_that_a_trial_lacks_counts_as_its_default() -> None:
    lacks = {name: value for name, value in POINT.items() if name != "rows"}
    assert CUBE.units([lacks]) == pytest.approx(CUBE.units([{**POINT, "rows": 64}]))
