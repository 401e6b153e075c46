"""What the scheduler tells Ray Tune, asked without a cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from balance_tune.studies.cluster.resource_timeout import ResourceTimeout
from balance_tune.studies.execution import scheduler as scheduler_module
from balance_tune.studies.execution.scheduler import ArmScheduler, key_of
from tests.studies.toy import ToyStudy, toy_config


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A scheduler over a toy study, with trials as Tune would hold them."""

    def __init__(self, folder: Path, methods: tuple[str, ...] = ("joint",)) -> None:
        self.clock = Clock()
        self.study = ToyStudy(folder, toy_config(datasets=["d1"], methods=[*methods]))
        self.scheduler = ArmScheduler(self.study.queue, self.study.pruner, silence=100.0, clock=self.clock)

    def start(self) -> Any:
        given = self.study.queue.next()
        assert given is not None
        state = SimpleNamespace(ray_actor="actor")
        trial = SimpleNamespace(
            trial_id=f"t{given.key.number}", config=given.config, status=Trial.RUNNING, temporary_state=state
        )
        self.scheduler.on_trial_add(None, trial)
        return trial

    def next_after(self, trial: Any) -> Any:
        """End a trial and start the next one of its arm."""
        self.study.queue.finish(key_of(trial.config), "failed", "for this test")
        return self.start()

    def report(self, trial: Any, epoch: int, value: float, state: str = "running") -> str:
        result = {"epoch": epoch, "val/accuracy": value, "state": state}
        return self.scheduler.on_trial_result(None, trial, result)

    def step(self) -> Any:
        return self.scheduler.choose_trial_to_run(None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_stopped_trial_is_remembered_as_stopped_by_us(bench: Bench) -> None:
    good = bench.start()
    assert bench.report(good, 1, 0.9) == TrialScheduler.CONTINUE
    poor = bench.next_after(good)
    assert bench.report(poor, 1, 0.1) == TrialScheduler.STOP
    assert bench.scheduler.stopped == {"t1"}


def test_a_trial_that_says_it_failed_or_is_complete_is_not_judged(bench: Bench) -> None:
    good = bench.start()
    bench.report(good, 1, 0.9)
    poor = bench.next_after(good)
    for state in ("failed", "lost", "halt", "complete"):
        assert bench.report(poor, 1, 0.1, state) == TrialScheduler.CONTINUE
    assert len(bench.study.pruning_log.of_arm("d1/joint")) == 1


def test_confirmation_trials_are_never_judged(bench: Bench) -> None:
    good = bench.start()
    bench.report(good, 1, 0.9)
    poor = bench.next_after(good)
    poor.config = {**poor.config, "phase": "confirm"}
    assert bench.report(poor, 1, 0.1) == TrialScheduler.CONTINUE


def test_a_silent_trial_is_ended_and_the_reason_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    trial = bench.start()
    bench.step()
    bench.clock.now = 99.0
    bench.step()
    assert killed == []
    bench.clock.now = 101.0
    bench.step()
    assert killed == ["actor"]
    trial.error_file = None
    bench.scheduler.on_trial_error(None, trial)
    assert "no report for 101 s" in bench.scheduler.errors["t0"]


def test_long_epochs_are_not_taken_for_silence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    trial = bench.start()
    bench.step()
    bench.clock.now = 50.0
    bench.report(trial, 1, 0.5)
    bench.clock.now = 900.0
    bench.step()
    assert killed == []
    bench.clock.now = 1100.0
    bench.step()
    assert killed == ["actor"]


def test_pending_trials_are_left_to_tune(bench: Bench) -> None:
    trial = bench.start()
    trial.status = Trial.PENDING
    bench.clock.now = 1e6
    assert bench.step() is None


def test_trials_that_wait_too_long_for_a_machine_halt_the_study(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ("joint", "mlb"))
    bench.scheduler._waiting = ResourceTimeout({"CPU": 8.0}, 600.0, lambda: {"CPU": 2.0}, bench.clock)
    first, second = bench.start(), bench.start()
    second.trial_id, second.status = "t1", Trial.PENDING
    bench.scheduler.on_trial_add(None, first)
    bench.scheduler.on_trial_add(None, second)
    for bench.clock.now in (0.0, 90.0, 180.0):
        bench.step()
        bench.report(first, 1 + int(bench.clock.now), 0.5)
    assert bench.scheduler.halted == ""
    first.status = Trial.PENDING
    bench.clock.now = 200.0
    bench.step()
    bench.clock.now = 799.0
    bench.step()
    assert bench.scheduler.halted == ""
    bench.clock.now = 800.0
    bench.step()
    assert "needs (CPU 8), and the cluster has (CPU 2)" in bench.scheduler.halted


@pytest.mark.parametrize(("state", "halts"), [("PENDING", True), ("CREATED", False)])
def test_a_trial_whose_workers_wait_has_no_machine_either_and_is_not_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, state: str, halts: bool
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(scheduler_module, "placement_group_table", lambda: {"g": {"state": state}})
    bench.scheduler._groups = True
    bench.scheduler._waiting = ResourceTimeout({"CPU": 8.0}, 600.0, dict, bench.clock)
    bench.start()
    for bench.clock.now in (0.0, 300.0, 600.0):
        bench.step()
    assert bool(bench.scheduler.halted) == halts
    assert bool(killed) != halts


def test_a_lost_node_is_counted_for_its_trial(bench: Bench, tmp_path: Path) -> None:
    trial = bench.start()
    (tmp_path / "error.txt").write_text(
        "Failure # 1 (occurred at 2026-01-01)\nWorkerCrashedError\n"
        "Failure # 2 (occurred at 2026-01-01)\nActorDiedError: The actor died because its node has died. Node Id: 5b\n"
    )
    trial.error_file = str(tmp_path / "error.txt")
    bench.scheduler.on_trial_error(None, trial)
    assert bench.scheduler.preempted == {"t0"}
    bench.report(trial, 1, 0.5)  # Tune has started it again by itself
    assert bench.scheduler.preempted == set()
    (run,) = bench.study.queue.live.values()
    assert run.preempted == 1


def test_a_trial_that_tune_gave_up_without_a_word_is_noticed(bench: Bench) -> None:
    trial = bench.start()
    assert not bench.scheduler.gave_up("t0")
    trial.status = Trial.ERROR
    bench.step()
    assert bench.scheduler.gave_up("t0")
