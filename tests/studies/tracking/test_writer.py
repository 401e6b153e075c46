"""The writer against stores that are slow, absent, broken or picky: order kept, nothing lost, the study never waits."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.studies.tracking import outbox
from balance_tune.studies.tracking import writer as loop
from balance_tune.studies.tracking.outbox import Outbox
from balance_tune.studies.tracking.runs import Row, RunKey, Update
from balance_tune.studies.tracking.spool import Appender, Reader
from balance_tune.studies.tracking.writer import ATTEMPTS, State, Writer
from tests.faults.driver import until
from tests.studies.tracking.in_thread import InThread

LONG = 60.0  # seconds: far beyond what any of these tests takes


class Refusal(Exception):
    error_code = "INVALID_PARAMETER_VALUE"


class Recorder:
    """A store that keeps what it is sent; it can be told to fail, or to hang until `go` is set."""

    def __init__(self, fail: int = 0, error: type[Exception] = ConnectionError, absent: bool = False) -> None:
        self.sent: list[Update] = []
        self.opened = 0
        self.absent = absent
        self.fail, self.error = fail, error
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()
        self.patience: float | None = LONG

    def open(self) -> None:
        self.opened += 1
        if self.absent:
            raise ConnectionError("no")

    def send(self, update: Update) -> None:
        self.asked.set()
        self.go.wait(self.patience)
        if self.fail:
            self.fail -= 1
            raise self.error("no")
        self.sent.append(update)

    def epochs(self, number: int) -> list[int]:
        return [row.step for u in self.sent if u.key.number == number for row in u.rows]


def key(number: int) -> RunKey:
    return RunKey("d/m", "search", number)


def epoch(number: int, step: int) -> dict[str, Any]:
    return Update(key(number), step, rows=[Row(step, step, {"val/accuracy": step / 10})]).to_json()


def end(number: int, status: str = "FINISHED") -> dict[str, Any]:
    return Update(key(number), 99, status=status).to_json()


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK_EVERY", 0.01)


class Box(Outbox):
    """An outbox whose writer, in a thread, has a `sender` of the test."""

    def __init__(self, queue: Path, sender: Any, tasks: Mapping[str, Any] | None = None, linger: float = LONG) -> None:
        self.thread = InThread(
            lambda tell: Writer(
                Reader(queue), sender, tasks or {}, tell, shown="here", linger=linger, first_pause=0.001, patience=0.01
            )
        )
        super().__init__(queue, self.thread)
        self.start()

    @property
    def writer(self) -> Writer:
        self.thread._made.wait()
        return self.thread.writer


def test_a_trial_is_sent_whole_and_at_once_when_it_ends(queue: Path) -> None:
    sender = Recorder()
    w = Box(queue, sender)
    for step in range(1, 21):
        w.put(epoch(0, step))
    w.put(end(0))
    assert w.stop(LONG)
    assert sender.epochs(0) == list(range(1, 21))
    assert len(sender.sent) <= 2  # what came before the end may have been taken first


def test_a_run_that_holds_much_is_sent_before_its_trial_ends(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FULL", 2)
    sender = Recorder()
    w = Box(queue, sender, linger=10 * LONG)
    w.put(epoch(0, 1))
    until(lambda: bool(w.writer._gathered), "the first is gathered", every=0.001)
    assert sender.sent == []
    w.put(epoch(0, 2))
    assert sender.asked.wait(LONG)
    assert w.stop(LONG)
    assert sender.epochs(0) == [1, 2]


def test_a_long_trial_shows_up_before_it_ends(queue: Path) -> None:
    sender = Recorder()
    w = Box(queue, sender, linger=0.0)
    w.put(epoch(0, 1))
    assert sender.asked.wait(LONG)
    w.stop(LONG)


def test_order_is_kept_while_the_store_fails_again_and_again(queue: Path) -> None:
    sender = Recorder(fail=7)
    w = Box(queue, sender, linger=0.0)
    for step in range(1, 30):
        for number in range(3):
            w.put(epoch(number, step))
    assert w.stop(LONG)
    assert [sender.epochs(n) for n in range(3)] == [list(range(1, 30))] * 3
    assert not queue.exists()


def test_putting_never_waits_for_a_store_that_hangs(queue: Path) -> None:
    sender = Recorder()
    sender.go.clear()
    w = Box(queue, sender, linger=0.0)
    w.put(end(0))
    assert sender.asked.wait(LONG)
    for step in range(5000):
        w.put(epoch(1, step))  # would hang here if it waited
    assert sender.sent == []
    sender.go.set()
    assert w.stop(LONG)
    assert len(sender.epochs(1)) == 5000


def test_only_so_much_is_held_in_memory_while_the_store_hangs(queue: Path) -> None:
    sender = Recorder()
    sender.go.clear()
    w = Box(queue, sender)
    w.put(end(0))
    assert sender.asked.wait(LONG)
    for step in range(3000):
        w.put(epoch(1, step))
    assert len(w.writer._gathered) <= 2
    assert w.writer._spool.read_to < queue.stat().st_size
    sender.go.set()
    assert w.stop(LONG)


def test_closing_gives_up_on_a_store_that_is_absent_and_keeps_the_rest(queue: Path, caplog: Any) -> None:
    w = Box(queue, Recorder(absent=True))
    w.put(epoch(0, 1))
    w.put(end(0))
    assert not w.stop(0.2)
    assert "does not take" in caplog.text
    assert w.trouble == "no"
    again = Recorder()
    assert Box(queue, again).stop(LONG)
    assert again.epochs(0) == [1]


def test_a_crash_repeats_what_was_under_way_and_loses_nothing(queue: Path) -> None:
    """The dead process: its thread hangs in the store for ever, its queue file is all that is left."""
    hung = Recorder()
    hung.patience = None
    w = Box(queue, hung)
    w.put(epoch(0, 1))
    w.put(end(0))
    assert w.drain(LONG)
    hung.go.clear()
    hung.asked.clear()
    for step in (1, 2, 3):
        w.put(epoch(1, step))
    w.put(end(1))
    assert hung.asked.wait(LONG)

    w.writer._spool.close()

    after = Recorder()
    assert Box(queue, after).stop(LONG)
    assert after.epochs(1) == [1, 2, 3]
    assert after.epochs(0) == []


def test_what_the_store_refuses_is_kept_aside_and_the_rest_goes_on(queue: Path, caplog: Any) -> None:
    sender = Recorder(fail=1, error=Refusal)
    w = Box(queue, sender)
    w.put(end(0))
    w.drain(LONG)
    w.put(end(1))
    assert w.stop(LONG)
    assert [u.key.number for u in sender.sent] == [1]
    kept = json.loads(Path(f"{queue}.rejected").read_text())
    assert kept["run"] == ["d/m", "search", 0]
    assert "refused" in caplog.text


def test_what_fails_again_and_again_in_a_store_that_is_there_is_kept_aside(queue: Path) -> None:
    sender = Recorder(fail=ATTEMPTS)
    w = Box(queue, sender)
    w.put(end(0))
    w.drain(LONG)
    w.put(end(1))
    assert w.stop(LONG)
    assert [u.key.number for u in sender.sent] == [1]
    assert Path(f"{queue}.rejected").exists()


def test_an_outage_counts_as_no_attempt(queue: Path) -> None:
    class Down(Recorder):
        def open(self) -> None:
            super().open()
            self.absent = 1 < self.opened < 5 * ATTEMPTS

    sender = Down(fail=1)
    w = Box(queue, sender)
    w.put(end(0))
    assert w.stop(LONG)
    assert [u.key.number for u in sender.sent] == [0]


def test_a_fault_of_our_own_in_one_entry_does_not_stop_the_others(queue: Path) -> None:
    sender = Recorder(fail=1, error=TypeError)
    w = Box(queue, sender)
    w.put(end(0))
    w.drain(LONG)
    w.put(end(1))
    assert w.stop(LONG)
    assert [u.key.number for u in sender.sent] == [1]


def test_a_task_comes_after_all_that_was_put_before_it(queue: Path) -> None:
    sender = Recorder()
    seen: list[list[int]] = []
    w = Box(queue, sender, tasks={"crown": lambda entry: seen.append(sender.epochs(entry["of"]))})
    w.put(epoch(3, 1))
    w.put(epoch(3, 2))
    w.put({"task": "crown", "of": 3})
    w.put(epoch(3, 3))
    assert w.stop(LONG)
    assert seen == [[1, 2]]
    assert sender.epochs(3) == [1, 2, 3]


def test_a_store_that_was_emptied_is_opened_anew(queue: Path) -> None:
    sender = Recorder(fail=1)
    w = Box(queue, sender)
    w.put(end(0))
    assert w.stop(LONG)
    assert sender.opened == 2
    assert len(sender.sent) == 1


def test_a_full_disk_loses_entries_aloud_and_never_raises(queue: Path, caplog: Any, monkeypatch: Any) -> None:
    w = Box(queue, Recorder())

    def full(entry: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(w._spool, "append", full)
    w.put(end(0))
    w.put(end(1))
    assert w.lost == 2
    assert caplog.text.count("No space left") == 1
    assert w.stop(LONG)


def test_a_password_in_an_error_does_not_reach_the_console(queue: Path, caplog: Any) -> None:
    class Picky(Recorder):
        def open(self) -> None:
            raise ConnectionError("cannot reach postgresql://me:secret@db/mlflow")

    w = Box(queue, Picky())
    w.put(end(0))
    assert not w.stop(0.2)
    assert "secret" not in caplog.text
    assert "postgresql://db/mlflow" in caplog.text


def test_what_is_no_entry_of_ours_is_kept_aside_and_the_rest_goes_on(queue: Path, caplog: Any) -> None:
    sender = Recorder()
    w = Box(queue, sender)
    w.put({"a later version": "says it otherwise"})
    w.put(end(0))
    assert w.stop(LONG)
    assert [u.key.number for u in sender.sent] == [0]
    assert "later version" in Path(f"{queue}.rejected").read_text()


class Told:
    """Keeps a writer that answers a drain with one state, and then says no more."""

    pid = None

    def __init__(self, state: State) -> None:
        self.state = state

    def start(self, heard: Callable[[State], None]) -> None:
        self.heard = heard

    def drain(self, number: int) -> None:
        self.heard(self.state)

    def end(self, grace: float) -> bool:
        return True


def test_a_drain_gives_up_at_once_soon_or_late_by_what_the_writer_says(
    queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is one that goes on by a millisecond whenever it is looked at."""
    looks = itertools.count()
    monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=lambda: next(looks) / 1000))

    def waited(state: State) -> int:
        box, before = Outbox(queue, Told(state)), next(looks)
        box.start()
        assert not box.drain(0.06)
        return next(looks) - before

    at_work, pausing, ends_again_and_again = State(), State(pausing=True), State(ended=outbox.LIVES)
    assert 60 <= waited(at_work) <= 65
    assert 10 <= waited(pausing) <= 15
    assert waited(ends_again_and_again) <= 5


def test_at_a_low_priority_it_writes_until_somebody_waits(queue: Path) -> None:
    sender = Recorder()
    appender, writer = Appender(queue), Writer(Reader(queue), sender, {}, lambda state: None, shown="here")
    gentle = threading.Thread(target=lambda: (writer.open(), writer.run(until_drain=True)), daemon=True)
    gentle.start()
    appender.append(end(0))
    assert sender.asked.wait(LONG)
    appender.append(epoch(1, 1))
    writer.drain(1)
    gentle.join(LONG)
    assert not gentle.is_alive()
    rest = threading.Thread(target=writer.run, daemon=True)
    rest.start()
    until(lambda: writer._drained == 1, "the rest to be sent", every=0.001)
    assert sender.epochs(1) == [1]
    writer.stop()
    rest.join(LONG)
    assert not rest.is_alive()
