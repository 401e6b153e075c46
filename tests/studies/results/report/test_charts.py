"""Axes, lines and labels of the charts."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from balance_tune.studies.results.report.charts import Axis, Plot, Style, apart, spread, thin


# charts --------------------------------------------------------------------------------------------------------------
def test_ticks_are_round_and_inside_the_axis() -> None:
    assert Axis(0.903, 0.981, percent=True).ticks(4) == [0.92, 0.94, 0.96, 0.98]
    assert Axis(0.01, 0.2, log=True).ticks(5) == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert Axis(1, 10).ticks(4) == [2.5, 5.0, 7.5, 10.0]
    assert Axis(1, 10, whole=True).ticks(4) == [5.0, 10.0]  # epochs
    assert Axis(1e-5, 1e-2, log=True).ticks(3) == pytest.approx([1e-5, 1e-3])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [float("nan")], [0.0], [1e-9, 1e9]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_make_an_axis_that_can_be_drawn(values: list[float], log: bool) -> None:
    axis = spread(values, log=log)
    assert axis.low < axis.high
    plot = Plot(axis, axis, "a chart")
    plot.line([(axis.low, axis.low), (axis.high, axis.high)], Style())
    plot.dot((axis.low, axis.high), "#000", "a dot")
    ElementTree.fromstring(plot.picture().svg())


def test_names_at_the_ends_of_lines_do_not_collide() -> None:
    heights = apart([10, 11, 12, 100], 12, 0, 100)
    assert all(b - a >= 12 for a, b in pairwise(heights))
    assert heights[-1] <= 100
    assert apart([], 12, 0, 100) == []


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    curve = [(float(i), float(i)) for i in range(1000)]
    assert len(thin(curve)) == 60
    assert (thin(curve)[0], thin(curve)[-1]) == (curve[0], curve[-1])
