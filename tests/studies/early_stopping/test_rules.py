"""The stopping rules, told values by hand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Decision
from balance_tune.studies.early_stopping.rules import Asha, Expectation, MedianRule, StoppingRule, rule_of
from balance_tune.studies.protocol.arms import check_names
from tests.studies.toy import ToyStudy, toy_config


def asha(epochs: int = 20, grace: int = 3, reduction: float = 3) -> Asha:
    return Asha(epochs, grace=grace, reduction=reduction)


@pytest.mark.parametrize(
    ("epochs", "grace", "reduction", "expected"),
    [
        (20, 3, 3, (3, 9)),
        (27, 3, 3, (3, 9)),
        (28, 3, 3, (3, 9, 27)),
        (3, 3, 3, ()),
        (9, 1, 2, (1, 2, 4, 8)),
        (1, 1, 3, ()),
    ],
)
def test_rungs_grow_by_the_reduction_and_end_before_the_last_epoch(
    epochs: int, grace: int, reduction: int, expected: tuple[int, ...]
) -> None:
    assert tuple(asha(epochs, grace, reduction).rung_epochs()) == expected


def test_the_first_trial_of_a_rung_has_nothing_to_be_compared_with_and_goes_on() -> None:
    decision = asha().report(0, 3, 0.1)
    assert decision is not None
    assert not decision.stop
    assert (decision.threshold, decision.rank, decision.of) == (None, 1, 1)


def test_only_the_best_third_goes_on() -> None:
    rule = asha()
    decisions = [rule.report(i, 3, v) for i, v in enumerate([0.5, 0.6, 0.4, 0.55, 0.7, 0.58])]
    assert [v and v.stop for v in decisions] == [False, False, True, False, False, True]
    last = decisions[-1]
    assert last is not None
    assert (last.threshold, last.rank, last.of) == (0.6, 3, 6)


def test_a_tie_with_the_last_that_goes_on_goes_on() -> None:
    rule = asha()
    rule.report(0, 3, 0.5)
    decision = rule.report(1, 3, 0.5)
    assert decision is not None
    assert not decision.stop


def test_a_value_enters_a_rung_only_at_exactly_its_epoch() -> None:
    rule = asha()
    assert [rule.report(0, epoch, 0.9) is not None for epoch in range(1, 20)] == [e in (3, 9) for e in range(1, 20)]
    decision = rule.report(1, 9, 0.95)
    assert decision is not None
    assert decision.of == 2


def test_rungs_below_min_epochs_do_not_exist_for_a_trial() -> None:
    rule = asha()
    rule.report(0, 3, 0.9)
    assert rule.report(1, 3, 0.1, min_epochs=8) is None
    late = rule.report(1, 9, 0.1, min_epochs=8)
    assert late is not None
    assert late.of == 1
    second = rule.report(2, 3, 0.95)
    assert second is not None
    assert second.of == 2, "the early value must not have entered the rung"


def test_a_report_made_again_gets_the_decision_it_got_and_does_not_enter_twice() -> None:
    rule = asha()
    rule.report(0, 3, 0.9)
    first = rule.report(1, 3, 0.5)
    assert rule.report(1, 3, 0.99) == first
    third = rule.report(2, 3, 0.6)
    assert third is not None
    assert third.of == 3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 40))
def test_a_rule_refilled_from_its_decisions_goes_on_as_if_nothing_had_happened(values: list[float], cut: int) -> None:
    whole, refilled = asha(), asha()
    decisions = [whole.report(i, 3, v) for i, v in enumerate(values)]
    for decision in decisions[:cut]:
        assert decision is not None
        refilled.refill(decision)
    assert [refilled.report(i, 3, v) for i, v in enumerate(values)] == decisions


def test_the_median_rule_waits_for_enough_others_and_then_stops_the_worse_half() -> None:
    rule = MedianRule(10, grace=2, least=3)
    for number, level in enumerate([0.5, 0.6, 0.7]):
        for epoch in (1, 2, 3):
            decision = rule.report(number, epoch, level)
            assert (decision is None) == (epoch == 1)
            assert decision is None or not decision.stop
    poor = rule.report(3, 2, 0.55)
    assert poor is not None
    assert poor.stop
    assert poor.threshold == pytest.approx(0.6)
    good = rule.report(4, 2, 0.65)
    assert good is not None
    assert not good.stop


def test_the_median_rule_judges_by_the_best_value_so_far() -> None:
    rule = MedianRule(10, grace=1, least=1)
    rule.report(0, 1, 0.5)
    rule.report(0, 2, 0.5)
    rule.report(1, 1, 0.8)
    dipped = rule.report(1, 2, 0.1)
    assert dipped is not None
    assert not dipped.stop


def test_the_median_rule_refilled_gives_the_same_decisions() -> None:
    reports = [(n, e, (n * 7 % 5) / 5 + e / 100) for n in range(8) for e in range(1, 6)]
    whole, refilled = MedianRule(10, grace=1), MedianRule(10, grace=1)
    decisions = [whole.report(*r) for r in reports]
    for decision in decisions[:17]:
        assert decision is not None
        refilled.refill(decision)
    assert [refilled.report(*r) for r in reports] == decisions


class Floor(StoppingRule):
    """A rule of a user's: prunes what lies below a floor."""

    def __init__(self, epochs: int, *, grace: int, floor: float = 0.5) -> None:
        super().__init__(epochs)
        self.grace, self.floor = grace, floor

    def rung_epochs(self, min_epochs: int = 0) -> Collection[int]:
        return range(max(self.grace, min_epochs), self.epochs)

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        return Decision(number, epoch, value, self.floor, 1, 1, stop=value < self.floor)

    def enter(self, number: int, epoch: int, value: float) -> None:
        pass

    def expect(self, trials: int, min_epochs: int = 0) -> Expectation:
        return Expectation(trials * 4.0)


OWN = f"{__name__}:Floor"


def test_a_rule_of_the_users_is_named_by_its_import_path_and_gets_its_settings() -> None:
    rule = rule_of(EarlyStopping(kind=OWN, grace=2, settings={"floor": 0.7}), epochs=9)
    assert isinstance(rule, Floor)
    assert (rule.grace, rule.floor, list(rule.rung_epochs(6))) == (2, 0.7, [6, 7, 8])
    first, second = rule.report(0, 2, 0.6), rule.report(1, 2, 0.8)
    assert first is not None
    assert second is not None
    assert (first.stop, second.stop) == (True, False)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "ahsa"}, "did you mean `asha`"),
        ({"kind": "no.such.module:Rule"}, "must be importable as `package.module:name`"),
        ({"kind": "balance_tune.tasks:Objective"}, "must be a subclass of `StoppingRule`"),
        ({"kind": OWN, "settings": {"flor": 1}}, "but flor is not; it has floor"),
        ({"kind": "asha", "settings": {"least": 2}}, "but least is not; it has none"),
        ({"kind": "median", "settings": {"epochs": 2}}, "but epochs is not; it has least"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_in_one_line(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rule_of(EarlyStopping.model_validate(entries), epochs=9)
    assert "\n" not in str(caught.value)


def test_a_study_with_an_unknown_rule_is_refused_before_it_begins() -> None:
    raw = {"name": "s", "datasets": ["av_digits"], "methods": ["joint"], "search": {"early_stopping": "ahsa"}}
    with pytest.raises(UserError, match="early-stopping rule must be one that exists, but got `ahsa`"):
        check_names(read_config(raw))


def test_a_study_prunes_by_a_rule_of_the_users(tmp_path: Path) -> None:
    stopping = {"kind": OWN, "grace": 2, "settings": {"floor": 2.0}}
    config = toy_config(search={"trials": 5, "sampler": "random", "early_stopping": stopping})
    study = ToyStudy(tmp_path, config)
    study.play()
    search = [r for arm in study.queue.arms for r in study.queue.records(arm) if r.phase == "search"]
    assert [(r.state, r.epochs) for r in search] == [("pruned", 2)] * 20


def test_the_example_of_the_documentation_is_a_rule() -> None:
    text = (Path(__file__).parents[3] / "docs" / "extending.md").read_text()
    example = next(block for block in text.split("```") if "class Floor(StoppingRule)" in block).removeprefix("python")
    names: dict[str, Any] = {}
    exec(example, names)
    rule = names["Floor"](20, grace=3, floor=0.5)
    assert [rule.report(0, epoch, 0.4) is None for epoch in (2, 3)] == [True, False]
    assert rule.expect(7).epochs == 7 * 20
