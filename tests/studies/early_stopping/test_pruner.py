"""One stopping rule per arm, with a pruning log."""

from __future__ import annotations

from pathlib import Path

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.tasks import Objective


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
