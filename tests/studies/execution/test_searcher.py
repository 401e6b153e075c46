"""What the searcher tells Ray Tune and the queue, asked without a cluster."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from balance_tune.studies.early_stopping.pruner import RuleError
from balance_tune.studies.execution.scheduler import ArmScheduler
from balance_tune.studies.execution.searcher import StudySearcher
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.storage.records import TrialRecord, read_records
from tests.studies.toy import EPOCHS, ToyStudy, toy_config


class Bench:
    """A searcher over a toy study, of one arm unless more are named, and Tune's part played by hand."""

    def __init__(self, folder: Path, slots: int = 1, methods: tuple[str, ...] = ("joint",)) -> None:
        self.folder = folder
        self.interrupted = False
        self.study = ToyStudy(folder, toy_config(datasets=["d1"], methods=[*methods]))
        self.scheduler = ArmScheduler(self.study.queue, self.study.pruner)
        self.searcher = StudySearcher(self.study.queue, self.scheduler, slots, lambda: self.interrupted)

    def row(self, epoch: int, state: str = "running", **more: Any) -> dict[str, Any]:
        return {"epoch": epoch, "val/accuracy": 0.5, "best_epoch": 1, "state": state, **more}

    def record(self, number: int = 0) -> TrialRecord:
        return next(r for r in read_records(self.folder) if r.number == number)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_no_more_trials_than_slots_are_handed_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, slots=2, methods=("joint", "mlb", "ogm"))
    assert isinstance(bench.searcher.suggest("a"), dict)
    assert isinstance(bench.searcher.suggest("b"), dict)
    assert bench.searcher.suggest("c") is None


def test_a_slot_stays_free_while_every_search_waits_for_its_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, slots=2)
    assert isinstance(bench.searcher.suggest("a"), dict)
    assert bench.searcher.suggest("b") is None
    bench.searcher.on_trial_result("a", bench.row(1))
    bench.searcher.on_trial_complete("a", bench.row(EPOCHS, "complete"))
    assert isinstance(bench.searcher.suggest("b"), dict)


def test_a_whole_study_ends_with_finished_and_waits_only_while_something_is_live(bench: Bench) -> None:
    for i in range(1000):
        given = bench.searcher.suggest(f"t{i}")
        if given == Searcher.FINISHED:
            break
        assert isinstance(given, dict)
        assert bench.searcher.suggest("more") is None
        bench.searcher.on_trial_result(f"t{i}", bench.row(1))
        bench.searcher.on_trial_complete(f"t{i}", bench.row(EPOCHS, "complete"))
    assert bench.study.queue.is_finished()
    assert {r.state for r in read_records(bench.folder)} == {"complete"}


def test_the_report_that_stopped_a_trial_is_in_its_curve(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.searcher.on_trial_result("a", bench.row(1))
    bench.scheduler.stopped.add("a")
    bench.searcher.on_trial_complete("a", bench.row(2))
    assert (bench.record().state, list(bench.record().curve)) == ("pruned", [1, 2])
    assert bench.scheduler.stopped == set()


def test_the_last_report_comes_twice_and_is_no_repetition(bench: Bench) -> None:
    bench.searcher.suggest("a")
    for last in (bench.row(1), bench.row(2, "complete")):
        bench.searcher.on_trial_result("a", last)
    bench.searcher.on_trial_complete("a", last)
    assert (bench.record().state, list(bench.record().curve)) == ("complete", [1, 2])
    assert "repeated" not in bench.record().attrs


def test_a_reported_failure_is_told_with_its_reason(bench: Bench) -> None:
    bench.searcher.suggest("a")
    row = bench.row(1, "failed", reason="train/loss is nan in epoch 2") | {"val/accuracy": float("nan")}
    bench.searcher.on_trial_result("a", row)
    bench.searcher.on_trial_complete("a", row)
    assert (bench.record().state, bench.record().attrs["reason"]) == ("failed", "train/loss is nan in epoch 2")
    assert dict(bench.record().curve) == {}


def test_epochs_that_come_with_a_failure_are_in_the_curve_once(bench: Bench) -> None:
    bench.searcher.suggest("a")
    row = bench.row(2, "failed", reason="it broke", earlier=[bench.row(1), bench.row(2)])
    bench.searcher.on_trial_result("a", row)
    bench.searcher.on_trial_complete("a", row)
    assert (bench.record().state, list(bench.record().curve)) == ("failed", [1, 2])
    assert "repeated" not in bench.record().attrs


def test_a_dead_process_is_a_loss_with_its_last_words_and_the_trial_runs_again(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.scheduler.errors["a"] = "RayActorError: the actor died"
    bench.searcher.on_trial_complete("a", error=True)
    again = bench.searcher.suggest("b")
    assert isinstance(again, dict)
    assert again["number"] == 0
    assert bench.record().attrs["lost_reason"] == "RayActorError: the actor died"


def test_a_lost_node_is_no_loss_of_the_trials_own(bench: Bench) -> None:
    for i in range(10):
        assert bench.searcher.suggest(f"t{i}")["number"] == 0  # type: ignore[index, call-overload]
        bench.study.queue.count_preemption(TrialKey("d1/joint", "search", 0))
        bench.scheduler.preempted.add(f"t{i}")
        bench.searcher.on_trial_complete(f"t{i}", error=True)
    assert bench.record().attrs["preempted"] == 10
    assert "lost" not in bench.record().attrs


def test_a_trial_that_ended_without_a_result_runs_again(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.searcher.on_trial_complete("a", bench.row(3))
    assert bench.record().state == "running"
    again = bench.searcher.suggest("b")
    assert isinstance(again, dict)
    assert again["number"] == 0


def test_a_trial_that_tune_lost_without_a_word_frees_its_slot(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.scheduler._trials["a"] = SimpleNamespace(status="ERROR")
    again = bench.searcher.suggest("b")
    assert isinstance(again, dict)
    assert (again["number"], bench.record().attrs["lost"]) == (0, 1)


def test_what_breaks_while_the_study_is_stopped_is_not_the_trials_fault(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.interrupted = True
    bench.searcher.on_trial_complete("a", error=True)
    assert bench.record().state == "running"
    assert "lost" not in bench.record().attrs


def test_a_full_disk_halts_the_study_and_leaves_the_trial_open(bench: Bench) -> None:
    bench.searcher.suggest("a")
    bench.searcher.on_trial_complete("a", bench.row(1, "halt", reason="OSError: No space left on device"))
    assert "No space left" in bench.scheduler.halted
    assert bench.searcher.suggest("b") == Searcher.FINISHED
    assert bench.record().state == "running"


def test_an_own_rule_that_raises_halts_the_study_and_its_epoch_is_reported_again_when_it_resumes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def should_prune(*args: object) -> bool:
        raise RuleError("the early-stopping rule `mine` must judge epoch 2, but raised KeyError: 3; correct it.")

    config = bench.searcher.suggest("a")
    assert isinstance(config, dict)
    trial = SimpleNamespace(trial_id="a", config=config)
    bench.searcher.on_trial_result("a", bench.row(1))
    monkeypatch.setattr(bench.study.pruner, "should_prune", should_prune)
    assert bench.scheduler.on_trial_result(None, trial, bench.row(2)) == TrialScheduler.CONTINUE
    bench.searcher.on_trial_result("a", bench.row(2))
    assert bench.scheduler.halted.endswith("raised KeyError: 3; correct it")
    assert bench.searcher.suggest("b") == Searcher.FINISHED
    assert (bench.record().state, list(bench.record().curve)) == ("running", [1])


def test_a_disk_that_is_full_for_the_driver_halts_the_study_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.searcher.suggest("a")

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("balance_tune.studies.storage.durable.append", full)
        bench.searcher.on_trial_result("a", bench.row(1))
        bench.searcher.on_trial_complete("a", bench.row(EPOCHS, "complete"))
        assert bench.searcher.suggest("b") == Searcher.FINISHED
    assert "No space left" in bench.scheduler.halted
    bench.study.reopen()
    again = bench.study.queue.next()
    assert again is not None
    assert again.key.number == 0


def test_news_of_an_unknown_trial_is_ignored(bench: Bench) -> None:
    bench.searcher.on_trial_result("x", bench.row(1))
    bench.searcher.on_trial_complete("x", error=True)
    assert read_records(bench.folder) == []


def test_searcher_and_scheduler_pickle_without_what_they_hold(bench: Bench) -> None:
    bench.searcher.suggest("a")
    assert isinstance(pickle.loads(pickle.dumps(bench.searcher)), StudySearcher)
    assert isinstance(pickle.loads(pickle.dumps(bench.scheduler)), ArmScheduler)
    assert TrialKey("d1/joint", "search", 0) in bench.study.queue.live
