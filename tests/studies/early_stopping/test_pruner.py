"""One stopping rule per arm, with a pruning log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruner import Pruner, RuleError
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.early_stopping.rules import Asha
from balance_tune.tasks import Objective
from tests.studies.toy import ToyStudy, toy_config


def pruner(folder: Path, *, kind: str = "asha", lower: bool = False) -> Pruner:
    settings = EarlyStopping.model_validate({"kind": kind, "grace": 1, "reduction": 2})
    log = PruningLog(folder / "ledger.jsonl")
    return Pruner(settings, {"d/a": 9, "d/b": 9}, log, Objective("val/mae" if lower else "val/accuracy"))


def test_arms_are_never_compared_with_each_other(tmp_path: Path) -> None:
    made = pruner(tmp_path)
    assert not made.should_prune("d/a", 0, 1, 0.9)
    assert not made.should_prune("d/b", 0, 1, 0.1)
    assert made.should_prune("d/a", 1, 1, 0.5)


def test_every_decision_is_in_the_pruning_log_once_before_it_takes_effect(tmp_path: Path) -> None:
    made = pruner(tmp_path)
    for _ in range(2):
        made.should_prune("d/a", 0, 1, 0.9)
        made.should_prune("d/a", 1, 1, 0.5)
    decisions = PruningLog(tmp_path / "ledger.jsonl").of_arm("d/a")
    assert [(v.number, v.stop) for v in decisions] == [(0, False), (1, True)]


def test_a_judge_refilled_from_the_pruning_log_knows_the_rungs(tmp_path: Path) -> None:
    pruner(tmp_path).should_prune("d/a", 0, 1, 0.9)
    assert pruner(tmp_path).should_prune("d/a", 1, 1, 0.5)


def test_where_lower_is_better_the_higher_value_is_stopped_and_the_pruning_log_keeps_its_unit(tmp_path: Path) -> None:
    made = pruner(tmp_path, lower=True)
    assert not made.should_prune("d/a", 0, 1, 0.2)
    assert made.should_prune("d/a", 1, 1, 0.7)
    (_, stop) = pruner(tmp_path, lower=True).pruning_log.of_arm("d/a")
    assert (stop.value, stop.threshold) == (0.7, 0.2)
    assert not pruner(tmp_path, lower=True).should_prune("d/a", 2, 1, 0.1)


def test_a_value_that_is_no_number_is_never_judged(tmp_path: Path) -> None:
    made = pruner(tmp_path)
    made.should_prune("d/a", 0, 1, 0.9)
    assert not made.should_prune("d/a", 1, 1, float("nan"))
    assert len(made.pruning_log.of_arm("d/a")) == 1


def test_without_early_stopping_nothing_is_judged(tmp_path: Path) -> None:
    made = pruner(tmp_path, kind="none")
    assert not any(made.should_prune("d/a", n, 1, 1.0 - n / 10) for n in range(9))
    assert not (tmp_path / "ledger.jsonl").exists()


def test_the_median_rule_is_at_hand(tmp_path: Path) -> None:
    made = pruner(tmp_path, kind="median")
    assert [made.should_prune("d/a", n, 1, v) for n, v in enumerate([0.5, 0.6, 0.7, 0.8, 0.1])] == [False] * 4 + [True]


class Faulty(Asha):
    """A rule as a user may write it, with an error that shows for one trial only."""

    faulty_trial: int | None = None
    result: Any = ValueError("two values\nare needed")

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if number != self.faulty_trial:
            return super().decide(number, epoch, value)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[no-any-return]


FAULTY = f"{__name__}:Faulty"


@pytest.mark.parametrize(
    ("result", "message"),
    [(Faulty.result, "raised ValueError: two values are needed;"), (None, "raised TypeError: `decide` must return a")],
)
def test_a_rule_that_raises_or_returns_no_decision_is_one_line_and_logs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: Any, message: str
) -> None:
    monkeypatch.setattr(Faulty, "faulty_trial", 1)
    monkeypatch.setattr(Faulty, "result", result)
    own = pruner(tmp_path, kind=FAULTY)
    assert not own.should_prune("d/a", 0, 1, 0.9)
    assert not own.rule_failed
    with pytest.raises(RuleError, match=message) as caught:
        own.should_prune("d/a", 1, 1, 0.5)
    assert "\n" not in str(caught.value)
    assert f"`{FAULTY}` must judge epoch 1 of search trial 1 of d/a" in str(caught.value)
    assert own.rule_failed
    assert [d.number for d in own.pruning_log.of_arm("d/a")] == [0]


def test_a_rule_that_cannot_take_an_earlier_decision_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner(tmp_path, kind=FAULTY).should_prune("d/a", 0, 1, 0.9)
    monkeypatch.setattr(Faulty, "enter", lambda *args: {}["epoch"])
    with pytest.raises(RuleError, match=r"epoch 1 of search trial 0 of d/a, but raised KeyError: 'epoch'; correct it"):
        pruner(tmp_path, kind=FAULTY)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_study_whose_rule_is_corrected_goes_on_as_if_it_had_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    stopping = {"kind": FAULTY, "reduction": 3, "grace": 1}
    search = {"trials": 6, "sampler": "random", "early_stopping": stopping, "parallel": parallel}
    config = toy_config(search=search, datasets=["d1"])
    whole, faulty = ToyStudy(tmp_path / "whole", config), ToyStudy(tmp_path / "faulty", config)
    whole.play()
    monkeypatch.setattr(Faulty, "faulty_trial", 3)
    with pytest.raises(RuleError):
        faulty.play()
    monkeypatch.undo()
    faulty.reopen()
    faulty.play()
    assert "pruned" in whole.ended.values()
    assert faulty.ended == whole.ended
    for arm in whole.arms:
        assert faulty.pruning_log.of_arm(arm.name) == whole.pruning_log.of_arm(arm.name)
