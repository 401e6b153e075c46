"""What is expected of points after search and selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from balance_tune.studies.protocol.expectation import MODELLED, expected_gains
from balance_tune.studies.storage.records import Phase, Range, State, TrialRecord
from balance_tune.tasks import Objective

ACCURACY, LOSS = Objective("val/accuracy"), Objective("val/loss")


def trial(
    number: int, x: float, *curve: float, phase: Phase = "search", state: State = "complete", **attrs: Any
) -> TrialRecord:
    return TrialRecord(
        arm="toy/mlb",
        dataset="toy",
        method="mlb",
        phase=phase,
        number=number,
        state=state,
        params={"x": x},
        seed=number,
        value=max(curve, default=None) if state == "complete" else None,
        curve=dict(enumerate(curve, start=1)),
        attrs=attrs,
        space={"x": Range(0.0, 1.0)},
    )


SEARCHED = [
    trial(0, 0.5, 0.3, 0.6, 0.8, default=True),
    trial(1, 0.3, 0.4, 0.7, 0.9),
    trial(2, 0.7, 0.2, 0.4, 0.5),
    trial(3, 0.25, 0.42, state="pruned"),
    trial(4, 0.9, state="failed"),
]
POINTS: list[Mapping[str, Any]] = [{"x": 0.3}, {"x": 0.7}, {"x": 0.5}]


def test_the_search_alone_says_which_points_are_good() -> None:
    good, bad, default = expected_gains(POINTS, SEARCHED, [], ACCURACY)
    assert good > default > bad


def test_selection_trainings_move_what_is_expected() -> None:
    before = expected_gains(POINTS, SEARCHED, [], ACCURACY)
    selected = [trial(9 + i, 0.7, 0.95, phase="select") for i in range(3)]
    after = expected_gains(POINTS, SEARCHED, selected, ACCURACY)
    assert after[1] - after[0] > before[1] - before[0]
    assert expected_gains(POINTS, SEARCHED, [trial(9, 0.7, phase="select", state="failed")], ACCURACY) == before


def test_a_loss_is_made_small() -> None:
    good, bad, _ = expected_gains(POINTS, SEARCHED, [], LOSS)
    assert good < bad


def test_trials_that_run_again_count_once() -> None:
    lost = trial(5, 0.7, 0.9, 0.99, state="failed", requeued_as=6)
    assert expected_gains(POINTS, [*SEARCHED, lost], [], ACCURACY) == expected_gains(POINTS, SEARCHED, [], ACCURACY)


def test_a_value_without_a_curve_counts() -> None:
    bare = [dataclasses.replace(r, curve={}) if r.state == "complete" else r for r in SEARCHED]
    good, bad, default = expected_gains(POINTS, bare, [], ACCURACY)
    assert good > default > bad


def test_without_search_trials_or_parameters_all_points_are_equal() -> None:
    assert expected_gains(POINTS, [], [], ACCURACY) == [0.0] * 3
    plain = [dataclasses.replace(r, space={}) for r in SEARCHED]
    assert expected_gains(POINTS, plain, [], ACCURACY) == [0.0] * 3
    assert expected_gains(POINTS, [r for r in SEARCHED if r.state == "failed"], [], ACCURACY) == [0.0] * 3


@pytest.mark.parametrize("trials", [MODELLED + 1, 1000])
def test_of_a_long_search_the_best_trials_count(trials: int) -> None:
    xs = [i / trials for i in range(trials)]
    searched = [trial(i, x, 1 - abs(x - 0.3), default=i == 0) for i, x in enumerate(xs)]
    best, near, far = expected_gains([{"x": 0.3}, {"x": 0.35}, {"x": 0.7}], searched, [], ACCURACY)
    assert best > near > far
