"""The process that writes to MLflow: it may be killed, it outlives nobody, and the end of a study never hangs on it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.tracking import tracker as trackers
from balance_tune.studies.tracking import worker as workers
from balance_tune.studies.tracking import worker_process as processes
from balance_tune.studies.tracking.backend import Store
from balance_tune.studies.tracking.tracker import Tracker
from balance_tune.studies.tracking.worker import LOW, Worker, set_priority
from balance_tune.studies.tracking.worker_process import Loop, Status, WorkerConfig
from tests.faults.driver import until
from tests.studies.tracking.servers import free_port
from tests.studies.tracking.written import WrittenStudy, runs_of, steps, tag

LONG = 60.0  # seconds: far beyond what any of these tests takes
STORE = Store("postgresql://me:s3cret@db/mlflow", None)


# the loop -------------------------------------------------------------------------------------------------------------
class Passes:
    """A sync that does what it is told: `results` are what its passes return or raise."""

    def __init__(self, *results: bool | Exception) -> None:
        self.results = list(results)
        self.states: list[str] = []
        self.finish: Callable[[], None] = lambda: None

    def run(self, state: str, on_progress: Callable[[int], None]) -> bool:
        self.states.append(state)
        result = self.results.pop(0)
        if not self.results or state != "running":
            self.finish()
        if isinstance(result, Exception):
            raise result
        on_progress(0)
        return result


def loop_of(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> tuple[Loop, list[Status], list[float]]:
    """Return a loop over these passes, what it answers, and the seconds it rests; it rests no time at all."""
    answers: list[Status] = []
    rests: list[float] = []
    loop = Loop(lambda: passes, STORE, answers.append)
    monkeypatch.setattr(loop._wake, "wait", rests.append)
    monkeypatch.setattr(processes.gc, "freeze", lambda: None)
    return loop, answers, rests


def test_it_goes_on_until_it_is_told_to_finish_and_then_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(True, True, True)
    loop, answers, rests = loop_of(passes, monkeypatch)
    monkeypatch.setattr(loop._wake, "wait", lambda s: (rests.append(s), loop.finish("complete") if rests[1:] else None))
    loop.run()
    assert passes.states == ["running", "running", "complete"]
    assert rests == [processes.EVERY, processes.EVERY]
    assert answers[-1] == Status(done=True, whole=True)


def test_a_store_that_is_away_is_asked_ever_more_rarely_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = ConnectionError("cannot reach postgresql://me:s3cret@db/mlflow")
    passes = Passes(*[away] * 9, True, True)
    loop, answers, rests = loop_of(passes, monkeypatch)
    passes.finish = lambda: loop.finish("complete")
    passes.results.append(True)
    loop.run()
    assert rests[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1
    assert "s3cret" not in caplog.text + str(answers)
    assert answers[0].trouble.startswith("cannot reach postgresql://db/mlflow")


def test_somebody_who_waits_for_a_store_that_is_away_sees_it_asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(*[ConnectionError("away")] * 12, True)
    loop, answers, _ = loop_of(passes, monkeypatch)
    rests: list[float] = []
    monkeypatch.setattr(processes.threading, "Event", lambda: SimpleNamespace(wait=rests.append))
    loop.finish("complete")
    loop.run()
    assert max(rests) == processes.LAST_PAUSE
    assert answers[-1] == Status(done=True, whole=True)


def test_a_fault_of_our_own_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop, answers, _ = loop_of(Passes(KeyError("arm")), monkeypatch)
    loop.finish("complete")
    loop.run()
    assert answers[-1] == Status(done=True, whole=False)
    assert "misses some of the study" in caplog.text


def test_its_configuration_survives_the_way_to_the_process() -> None:
    config = WorkerConfig("/f", Store("sqlite:////x", "file:///a"), ("a.b",), ("s3://b", "s"))
    assert WorkerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


# the process ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def study(written: Callable[..., WrittenStudy]) -> WrittenStudy:
    study = written()
    study.begin(0).train(3).end()
    return study


@pytest.fixture
def start(study: WrittenStudy, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Start workers whose processes do not outlive the test."""
    monkeypatch.setattr(workers, "FIRST_PAUSE", 0.01)
    started: list[Worker] = []

    def make(background: bool = True, patience: float = LONG, **changes: Any) -> Worker:
        config = dataclasses.replace(WorkerConfig(str(study.folder), store), **changes)
        started.append(Worker(config, patience, background=background))
        started[-1].start()
        return started[-1]

    yield make
    for worker in started:
        worker._over = True
        worker._kill()
        worker._thread.join(LONG)


def process_of(worker: Worker) -> subprocess.Popen[str]:
    until(lambda: worker.pid is not None, "the process", every=0.001)
    assert worker._process is not None
    return worker._process


def test_a_process_that_is_killed_is_started_again_and_nothing_is_lost_or_there_twice(
    start: Callable[..., Worker], study: WrittenStudy, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    for number in (1, 2, 3):
        study.begin(number).train(3).end()
        first = process_of(worker)
        first.kill()
        until(lambda old=first: worker._process is not old, "another process", every=0.001)
    assert worker.finish("complete")
    runs = runs_of(client, study.folder.name)
    assert all(steps(client, runs[f"00{n} / mlb / av_digits"]) == [1, 2, 3] for n in range(4))
    assert "worker ended (SIGKILL); it is started again" in caplog.text


@pytest.mark.parametrize("may_be_raised", [True, False])
def test_while_trials_run_it_has_a_low_priority_and_at_the_end_a_normal_one(
    start: Callable[..., Worker],
    study: WrittenStudy,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    may_be_raised: bool,
) -> None:
    set_to: list[tuple[int, int]] = []

    def set_priority(pid: int, nice: int) -> bool:
        set_to.append((pid, nice))
        return may_be_raised or nice > normal

    normal = os.getpriority(os.PRIO_PROCESS, 0)
    monkeypatch.setattr(workers, "set_priority", set_priority)
    worker = start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a signal to the whole group does not end it
        os.kill(process_of(worker).pid, number)
    first = process_of(worker).pid
    until(lambda: bool(set_to), "the first pass", patience=LONG)
    worker.raise_priority()
    assert set_to == [(first, normal + LOW), (first, normal)]
    if not may_be_raised:
        until(lambda: worker.pid != first, "another process", every=0.001)
    study.begin(1).train(2).end()
    assert worker.finish("complete")
    assert (worker.pid == first) == may_be_raised
    assert len(set_to) == 2, "what has a normal priority is not lowered again"
    assert worker._n_ended == 0, "no process ended by itself"
    assert tag(runs_of(client, study.folder.name)["001 / mlb / av_digits"], "state") == "complete"


def test_a_priority_is_set_and_a_process_that_has_ended_has_none() -> None:
    low = os.getpriority(os.PRIO_PROCESS, 0) + LOW
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        assert set_priority(process.pid, low)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(low, 19)
        process.kill()
    assert not set_priority(process.pid, 0)


def test_it_writes_while_the_study_runs(start: Callable[..., Worker], study: WrittenStudy, client: Any) -> None:
    start(background=False)
    name = "000 / mlb / av_digits"
    until(lambda: name in runs_of(client, study.folder.name), "the trial", patience=2 * LONG, every=0.2)


def test_no_process_outlives_its_driver(study: WrittenStudy, store: Store) -> None:
    """The driver is a process that is killed: nothing but the end of a pipe tells its worker."""
    program = (
        "import json, sys\n"
        "from balance_tune.studies.tracking.worker import Worker\n"
        "from balance_tune.studies.tracking.worker_process import WorkerConfig\n"
        "worker = Worker(WorkerConfig.from_json(json.loads(sys.stdin.readline())), 60, background=True)\n"
        "worker.start()\n"
        "while worker.pid is None: pass\n"
        "print(worker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps(WorkerConfig(str(study.folder), store).to_json()) + "\n")
        driver.stdin.flush()
        try:
            pid = int(driver.stdout.readline())
            assert alive(pid)
        finally:
            driver.kill()
    until(lambda: not alive(pid), "the worker's end", patience=LONG)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_that_cannot_start_is_given_up_and_told_of_once(
    start: Callable[..., Worker], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PROGRAM", "no.such.module")
    worker = start()
    assert not worker.finish("complete")
    assert worker._n_ended >= workers.LIVES
    assert caplog.text.count("it is started again") == 1


def test_a_server_that_is_away_is_waited_for_as_long_as_the_operator_says(
    start: Callable[..., Worker],
) -> None:
    worker = start(background=False, patience=0.1, store=Store(f"http://127.0.0.1:{free_port()}", None))
    seen: list[Status] = []
    assert not worker.finish("complete", seen.append)
    assert worker._status.trouble


@pytest.mark.parametrize(
    ("status", "seconds"), [(Status(left=3), workers.GRACE), (Status(trouble="away"), 10.0)], ids=["silent", "away"]
)
def test_the_end_of_a_study_waits_for_progress_and_for_a_store_that_is_away(
    status: Status, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is one that goes on by a second whenever it is looked at, and nothing else happens."""
    clock = itertools.count(start=1)
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    worker = Worker(WorkerConfig("f", STORE), patience=10.0, background=False)
    worker._thread = threading.Thread(target=lambda: None)
    worker._thread.start()
    monkeypatch.setattr(worker._changed, "wait", lambda seconds: False)
    worker._hear(json.dumps({"status": dataclasses.asdict(status)}))
    looks: list[Status] = []
    assert not worker.finish("complete", looks.append)
    assert abs(len(looks) - seconds) <= 2
    assert set(looks) == {status}


def test_what_a_library_prints_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(WorkerConfig("f", STORE), patience=1.0, background=False)
    for line in ("hello", "[1]", '{"status": {"no": 1}}', '{"log": ['):
        worker._hear(line + "\n")
    assert worker._status == Status()
    assert caplog.text.count("MLflow's worker says") == 4
    for _ in range(2):
        worker._hear('{"log": ["mlflow", 30, "careful"]}')
    assert caplog.text.count("careful") == 1


# what the study calls -------------------------------------------------------------------------------------------------
@pytest.fixture
def tracker(study: WrittenStudy) -> Tracker:
    return Tracker(stored_config(study.folder), study.folder)


def test_a_study_is_written_from_its_start_to_its_end(tracker: Tracker, study: WrittenStudy, client: Any) -> None:
    tracker.start()
    study.begin(1).train(2).end("pruned")
    tracker.trials_over()
    tracker.finish(study.records)
    runs = runs_of(client, study.folder.name)
    assert len(runs) == 5
    assert runs[study.folder.name].info.status == "FINISHED"
    assert tracker.worker_pid is None


def test_an_interrupted_study_is_shown_as_such(tracker: Tracker, study: WrittenStudy, client: Any) -> None:
    tracker.start()
    study.begin(1).train(2)
    tracker.interrupt()
    runs = runs_of(client, study.folder.name)
    assert {tag(runs[n], "state") for n in ("001 / mlb / av_digits", study.folder.name)} == {"interrupted"}


def test_nothing_is_started_or_written_before_there_is_something_to_write(
    tracker: Tracker, study: WrittenStudy
) -> None:
    before = sorted(path.name for path in study.folder.iterdir())
    tracker.interrupt()
    assert tracker.worker_pid is None
    assert sorted(path.name for path in study.folder.iterdir()) == before
    assert "mlflow.json" in before


@pytest.mark.parametrize("absent", ["http://127.0.0.1:9", "sqlite:////proc/no/such/mlflow.db"], ids=["server", "file"])
def test_an_absent_store_costs_a_line_and_the_next_run_writes_the_study(
    written: Callable[..., WrittenStudy],
    absent: str,
    client: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_OUTAGE_S", "0.1")
    monkeypatch.setattr(trackers, "FILE_PATIENCE", 0.1)
    study = written(mlflow={"tracking_uri": absent})
    study.begin(0).train(3).end()
    Tracker(stored_config(study.folder), study.folder).finish(study.records)
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("the next `balance-tune run` writes it") == 1

    study = written()  # the address was mended
    Tracker(stored_config(study.folder), study.folder).finish(study.records)
    assert steps(client, runs_of(client, study.folder.name)["000 / mlb / av_digits"]) == [1, 2, 3]


def test_what_breaks_in_the_tracker_never_reaches_the_study(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(trackers, "Worker", broken)
    tracker.start()
    tracker.finish([])
    assert caplog.text.count("the study goes on") == 2


def test_the_driver_learns_in_words_what_is_awaited(
    tracker: Tracker, study: WrittenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(SimpleNamespace):
        def finish(self, state: str, on_progress: Callable[[Status], None]) -> bool:
            for status in (Status(), Status(left=7), Status(trouble="refused")):
                on_progress(status)
            raise KeyboardInterrupt  # the user does not want to wait

    tracker._worker = Slow()  # type: ignore[assignment]
    said: list[str] = []
    tracker.finish(study.records, said.append)
    assert said[:2] == ["writing to MLflow", "writing to MLflow: 7 runs left"]
    assert "does not answer; waiting for it" in said[2]
