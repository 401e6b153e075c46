"""Stretches of time: what is noted is read again, and only what lies in the parts counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.intervals import note, noted, within


def test_what_is_noted_is_read_in_the_order_of_its_beginnings(tmp_path: Path) -> None:
    note(tmp_path / "times", (2.0, 2.5))
    note(tmp_path / "times", (1.0, 3.0))
    assert noted(tmp_path / "times") == [(1.0, 3.0), (2.0, 2.5)]


def test_only_the_time_in_which_a_side_ran_counts() -> None:
    ran = [(0.0, 2.0), (5.0, 6.0), (9.0, 20.0)]
    assert within((1.0, 10.0), ran) == 1.0 + 1.0 + 1.0
    assert within((2.5, 4.0), ran) == 0.0
    assert within((10.0, 12.0), ran) == 2.0
