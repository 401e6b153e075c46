"""Figures that hold methods side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from balance_tune.studies.results.across import Ranks
from balance_tune.studies.results.report import comparisons
from balance_tune.studies.results.report.charts import Axis, Style
from balance_tune.studies.results.report.comparisons import Entry
from balance_tune.studies.results.report.shapes import Line, Picture, Shape, Text
from balance_tune.studies.results.summary import MethodSummary, Summary
from tests.studies.results.rows import table_of


def shapes(picture: Picture) -> Iterator[Shape]:
    for mark in [*picture.frame, *picture.clipped, *picture.marks]:
        yield from mark.shapes


def texts(picture: Picture) -> dict[str, Text]:
    return {shape.text: shape for shape in shapes(picture) if isinstance(shape, Text)}


def test_rows_of_intervals_are_in_the_order_of_the_entries_and_cut_at_the_axis() -> None:
    entries = [Entry("mlb", 0.1, (0.0, 0.2), "#111111", "+10"), Entry("opm", 0.0, (-9.0, 9.0), "#222222", "0", 0.05)]
    picture = comparisons.intervals(entries, Axis(-0.5, 0.5, percent=True), "intervals")
    assert texts(picture)["mlb"].place[1] < texts(picture)["opm"].place[1]
    by_colour = {
        c: [s for s in shapes(picture) if isinstance(s, Line) and s.colour == c] for c in ("#111111", "#222222")
    }
    assert [len(lines) for lines in by_colour.values()] == [3, 1]  # an end beyond the axis has no cap
    (left, _), (right, _) = by_colour["#111111"][0].points
    zero = next(s for s in shapes(picture) if isinstance(s, Line) and s.dash).points[0][0]
    assert left == pytest.approx(zero)
    assert right > left
    assert "opm: 0, 95 % interval \N{MINUS SIGN}900 to 900" in [mark.title for mark in picture.marks]


def test_the_leaderboards_intervals_leave_out_the_baseline() -> None:
    rows = table_of({"mlb": [0.02, 0.021, 0.019], "opm": [0.2, -0.1, 0.15]})
    picture = comparisons.leaderboard_intervals(rows, {m: Style() for m in ("mlb", "opm", "joint")})
    assert picture is not None
    assert {"mlb", "opm", "+2.0", "difference to tuned joint, points"} <= texts(picture).keys()
    assert "joint" not in texts(picture)
    assert comparisons.leaderboard_intervals(rows[-1:], {}) is None


def test_only_some_profiles_have_a_colour_and_the_baseline_always() -> None:
    names = [f"m{k}" for k in range(9)] + ["joint"]
    flat = np.linspace(1, 0, 4)
    summary = Summary(
        ("a", "b"),
        np.linspace(-0.1, 0.1, 4),
        tuple(MethodSummary(m, 0.0, (0.0, 0.0), flat, (flat, flat)) for m in names),
    )
    picture = comparisons.profiles(summary, {m: Style(f"#{k:06d}") for k, m in enumerate(names)})
    assert [m for m in texts(picture) if m in names] == names
    drawn = {s.colour for mark in picture.clipped for s in mark.shapes if isinstance(s, Line)}
    assert {"#000000", "#000003", "#000009"} <= drawn
    assert "#000004" not in drawn


def test_bars_of_the_diagram_join_the_groups_at_their_ranks() -> None:
    ranks = Ranks(("a", "b", "c", "d"), (1.5, 1.5, 3.0, 4.0), 6, 0.01, 1.2, ((0, 1), (2, 3)))
    picture = comparisons.critical_difference(ranks)
    shown = texts(picture)
    bars = [s for s in shapes(picture) if isinstance(s, Line) and s.width == 4.0]
    assert len(bars) == 2
    unit = shown["2"].place[0] - shown["1"].place[0]
    at = [[1 + (x - shown["1"].place[0]) / unit for x, _ in bar.points] for bar in bars]
    assert at == [pytest.approx([1.5, 1.5], abs=3.1 / unit), pytest.approx([3.0, 4.0], abs=3.1 / unit)]
    scale = next(s for s in shapes(picture) if isinstance(s, Line) and s.width == 1.6)
    assert (scale.points[1][0] - scale.points[0][0]) / unit == pytest.approx(1.2)
    assert {"critical difference 1.20", "a 1.50", "b 1.50", "c 3.00", "d 4.00"} <= shown.keys()
    assert all(0 <= x <= picture.width and 0 <= y <= picture.height for t in shown.values() for x, y in [t.place])
