"""The results of one arm: which seeds count for the chosen point and for its default, and what intervals rest on."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.results.arm_results import ArmResults
from balance_tune.studies.storage.records import Phase, State, TrialRecord
from balance_tune.tasks import Objective

RULE = Rule(points=1, select_seeds=1, confirm_seeds=4, default_seeds=2)
DEFAULT, TUNED = 0.5, 0.3
NOWHERE = Path("nowhere")


def trial(
    phase: Phase, number: int, x: float, value: float, seed: int = 0, state: State = "complete", **attrs: Any
) -> TrialRecord:
    return TrialRecord("d/m", "d", "m", phase, number, state, {"x": x}, seed, value, attrs=attrs)


def records(*, default_wins: bool, test: Any = lambda x, i: {"accuracy": x + i / 10}) -> list[TrialRecord]:
    """Return a finished arm; `test(x, i)` is the sealed evaluation on the i-th confirmation seed."""
    (select,), seeds = RULE.seeds("select"), RULE.seeds("confirm")
    made = [trial("search", 0, DEFAULT, 0.8, default=True), trial("search", 1, TUNED, 0.9)]
    made += [trial("select", 0, DEFAULT, 0.9 if default_wins else 0.7, select), trial("select", 1, TUNED, 0.8, select)]
    chosen, beside = (DEFAULT, []) if default_wins else (TUNED, [DEFAULT])
    made += [trial("confirm", 2 + i, chosen, 0.8, seed, test=test(chosen, i)) for i, seed in enumerate(seeds)]
    for x in beside:
        made += [trial("confirm", 6 + i, x, 0.8, seed, test=test(x, i)) for i, seed in enumerate(seeds[:2])]
    return made


def results(found: list[TrialRecord], rule: Rule = RULE, folder: Path = NOWHERE) -> ArmResults:
    return ArmResults.of(found, rule, "sealed", folder)


def test_where_the_default_won_its_column_has_every_confirmation_seed() -> None:
    arm = results(records(default_wins=True))
    assert arm.point is not None
    assert arm.point.default
    assert arm.default_scores() == arm.scores()
    assert list(arm.default_scores()) == RULE.seeds("confirm")


def test_where_another_point_won_the_default_has_its_own_first_seeds() -> None:
    arm = results(records(default_wins=False))
    assert list(arm.scores()) == RULE.seeds("confirm")
    assert list(arm.default_scores()) == RULE.seeds("confirm")[:2]
    assert list(arm.default_scores().values()) == [DEFAULT, DEFAULT + 0.1]


def test_a_trial_that_failed_has_no_score() -> None:
    found = records(default_wins=True)
    found[-1] = trial("confirm", 5, DEFAULT, 0.8, RULE.seeds("confirm")[-1], "failed", test={"accuracy": 1.0})
    assert list(results(found).scores()) == RULE.seeds("confirm")[:3]


def test_the_objectives_metric_is_reported_where_every_evaluation_has_it() -> None:
    rule = Rule(points=1, select_seeds=1, confirm_seeds=4, default_seeds=2, objective=Objective("val/macro_f1"))
    both = records(default_wins=True, test=lambda x, i: {"accuracy": 0.9, "macro_f1": 0.7})
    assert results(both, rule).metric == "macro_f1"
    assert set(results(both, rule).scores().values()) == {0.7}
    alone = records(default_wins=True, test=lambda x, i: {"accuracy": 0.9, **({"macro_f1": 0.7} if i else {})})
    assert results(alone, rule).metric == "accuracy"


def test_intervals_rest_on_the_rows_of_common_seeds() -> None:
    def test(x: float, i: int) -> dict[str, Any]:
        correct = np.arange(800) < (600 if x == TUNED else 400)
        packed = base64.b64encode(np.packbits(correct)).decode()
        return {"accuracy": float(correct.mean()), "n": 800, "correct": packed}

    better, worse = results(records(default_wins=False, test=test)), results(records(default_wins=True, test=test))
    assert better.test_rows() == 800
    low, high = better.test_interval() or (0.0, 0.0)
    assert low < 0.75 < high
    low, high = better.test_interval(worse) or (0.0, 0.0)
    assert low < 0.25 < high
    worse.by_row = {}
    assert better.test_interval(worse) is None


def test_a_damaged_evaluation_is_refused_in_one_line(tmp_path: Path) -> None:
    found = records(default_wins=True, test=lambda x, i: {})
    found[-1] = trial("confirm", 5, DEFAULT, 0.8, RULE.seeds("confirm")[-1], folder="t")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/test.json").write_text("{")
    with pytest.raises(UserError, match=r"test\.json` must be JSON"):
        results(found, folder=tmp_path)
