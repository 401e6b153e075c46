"""How the curves of a trial that was trained again compare with the recorded ones."""

from __future__ import annotations

import math

import pytest

from balance_tune.studies.evaluation.reproduction import Comparison, Difference, differences

RECORDED = {1: {"val/loss": 0.5, "val/accuracy": 0.8}, 2: {"val/loss": 4.0, "val/accuracy": 0.9}}


def test_equal_values_are_no_difference() -> None:
    assert list(differences(RECORDED, RECORDED)) == []
    nan = {1: {"val/gap": math.nan}}
    assert list(differences(nan, nan)) == []


def test_every_value_that_is_not_the_same_is_told_in_the_order_of_epochs() -> None:
    now = {2: {"val/loss": 4.4, "val/accuracy": 0.9}, 1: {"val/loss": 0.6, "val/accuracy": 0.8}}
    found = list(differences(RECORDED, now))
    assert [(d.epoch, d.metric) for d in found] == [(1, "val/loss"), (2, "val/loss")]
    assert [d.size for d in found] == pytest.approx([0.1, 0.1])  # relative where the recorded value is above 1


def test_a_value_that_is_missing_now_differs_by_more_than_any_tolerance() -> None:
    found = list(differences(RECORDED, {1: RECORDED[1]}))
    assert [(d.epoch, d.size) for d in found] == [(2, math.inf), (2, math.inf)]


@pytest.mark.parametrize(
    ("now", "verdict"), [(None, "bit-identical"), (0.5 + 1e-7, "within tolerance"), (0.6, "different")]
)
def test_the_largest_difference_decides(now: float | None, verdict: str) -> None:
    found = [] if now is None else [Difference(1, "val/loss", 0.5, now), Difference(2, "val/loss", 0.5, 0.5 + 1e-9)]
    assert Comparison("t", 2, 4, tolerance=1e-6, differences=found).verdict == verdict
