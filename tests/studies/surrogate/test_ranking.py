"""What the points of a search are expected to give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from balance_tune.studies.protocol.selection import Rule, candidates
from balance_tune.studies.storage.records import Range, TrialRecord
from balance_tune.studies.surrogate.ranking import LEAST, expected_values
from balance_tune.tasks import Objective

SPACE = {"lr": Range(0.0, 1.0), "mode": Range(choices=("a", "b"))}
ACCURACY = Objective("val/accuracy")


def record(number: int, lr: float, *curve: float, state: Any = "complete", **more: Any) -> TrialRecord:
    params: Mapping[str, Any] = {"lr": lr, "mode": "a"}
    return TrialRecord(
        "d/m",
        "d",
        "m",
        "search",
        number,
        state,
        params=params,
        value=max(curve, default=None),
        curve=dict(enumerate(curve, start=1)),
        attrs={"default": number == 0, "epochs": len(curve)},
        space=SPACE,
        **more,
    )


def search() -> list[TrialRecord]:
    """Return a search that is best about lr = 0.3, with one lucky trial where its neighbours are poor."""
    values = {0.1: 0.70, 0.2: 0.78, 0.3: 0.80, 0.31: 0.79, 0.4: 0.78, 0.8: 0.60, 0.81: 0.805, 0.82: 0.60, 0.9: 0.55}
    return [record(number, lr, value - 0.2, value) for number, (lr, value) in enumerate(values.items())]


def test_a_lucky_trial_among_poor_ones_is_not_expected_to_be_the_best() -> None:
    records = search()
    expected = expected_values(records, ACCURACY)
    lucky = next(r.number for r in records if r.params["lr"] == 0.81)
    assert expected[lucky] < min(expected[n] for n in (1, 2, 3, 4))
    assert max(records, key=lambda r: r.value or 0.0).params["lr"] == 0.81


def test_selection_compares_the_points_that_are_expected_to_be_the_best() -> None:
    points = candidates(search(), Rule(points=2))
    assert {p.params["lr"] for p in points if not p.default} <= {0.2, 0.3, 0.31, 0.4}
    assert sum(p.default for p in points) == 1


def test_records_without_their_space_rank_by_value() -> None:
    bare = [TrialRecord(**{**vars(r), "space": {}}) for r in search()]
    assert expected_values(bare, ACCURACY) == {}
    assert candidates(bare, Rule(points=1))[0].params["lr"] == 0.81


def test_the_order_of_the_records_does_not_matter() -> None:
    records = search()
    assert expected_values(records[::-1], ACCURACY) == pytest.approx(expected_values(records, ACCURACY), abs=1e-5)


def test_an_objective_that_is_better_when_smaller_is_turned_round() -> None:
    mirrored = [
        TrialRecord(**{**vars(r), "curve": {epoch: -value for epoch, value in r.curve.items()}}) for r in search()
    ]
    assert expected_values(mirrored, Objective("val/loss")) == expected_values(search(), ACCURACY)


def test_few_trials_say_too_little() -> None:
    records = search()
    assert expected_values(records[: LEAST - 1], ACCURACY) == {}
    assert len(expected_values(records[:LEAST], ACCURACY)) == LEAST


def test_failed_and_pruned_trials_count() -> None:
    failed = record(9, 0.85, state="failed")
    pruned = record(10, 0.35, 0.55, state="pruned")
    expected = expected_values([*search(), failed, pruned], ACCURACY)
    assert expected[9] < expected[10]
    assert all(math.isfinite(value) for value in expected.values())
    assert expected_values([failed] * 9, ACCURACY) == {}
