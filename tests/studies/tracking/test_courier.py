"""The writer as a process of its own: it may be killed, it outlives nobody, and it tells what it has to tell."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.tracking import courier as couriers
from balance_tune.studies.tracking.backend import Store, store_of
from balance_tune.studies.tracking.courier import Courier
from balance_tune.studies.tracking.outbox import Outbox
from balance_tune.studies.tracking.runs import Row, RunKey, Update
from balance_tune.studies.tracking.writer import State
from balance_tune.studies.tracking.writer_process import NICE, Order
from tests.faults.driver import until

LONG = 60.0  # seconds: far beyond what any of these tests takes


def entry(number: int, steps: int = 3) -> dict[str, Any]:
    rows = [Row(step, step, {"val/accuracy": step / 10}) for step in range(1, steps + 1)]
    return Update(RunKey("d/m", "search", number), 1, rows=rows, status="FINISHED").to_json()


class Box(Outbox):
    """An outbox with the process that a study would have."""

    def __init__(self, order: Order) -> None:
        self.courier = Courier(order)
        super().__init__(Path(order.queue), self.courier)
        self.start()

    @property
    def process(self) -> subprocess.Popen[str]:
        until(lambda: self.pid is not None, "the process", every=0.001)
        assert self.courier._process is not None
        return self.courier._process


@pytest.fixture
def order(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Order:
    return Order(
        queue=str(tmp_path / "queue"), store=store_of(root), study=request.node.name, study_id=request.node.name,
        folder=str(tmp_path), manifests={},
    )  # fmt: skip


@pytest.fixture
def box(order: Order, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Box]]:
    """Make outboxes whose processes do not outlive the test."""
    monkeypatch.setattr(couriers, "FIRST_PAUSE", 0.01)
    made: list[Box] = []

    def make(given: Order = order) -> Box:
        made.append(Box(given))
        return made[-1]

    yield make
    for one in made:
        assert one.courier.end(0)


def trials(client: Any, order: Order) -> dict[str, list[int]]:
    """Return number -> epochs of the trials that MLflow has; a trial that is there twice fails the test."""
    experiment = client.get_experiment_by_name(order.study)
    found: dict[str, list[int]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        number = run.data.tags.get("balance_tune.number")
        if number is not None:
            assert number not in found
            found[number] = [m.step for m in client.get_metric_history(run.info.run_id, "val/accuracy")]
    return found


def test_a_writer_that_is_killed_is_started_again_and_nothing_is_lost_or_there_twice(
    box: Callable[..., Box], order: Order, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    b = box()
    for number in range(6):
        b.put(entry(number))
        if number % 2 == 0:
            first = b.process
            first.kill()
            until(lambda old=first: b.process is not old, "another process", every=0.001)
    assert b.stop(LONG)
    assert trials(client, order) == {str(n): [1, 2, 3] for n in range(6)}
    assert "writer ended (SIGKILL); it is started again" in caplog.text
    assert not Path(order.queue).exists()
    assert b.process.returncode == 0


def test_a_writer_that_cannot_start_is_tried_ever_more_rarely_and_told_of_once(
    order: Order, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "PROGRAM", "no.such.module")
    courier, pauses = Courier(order), []
    told: list[State] = []
    over = threading.Event()

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 4:
            courier._over.set()
            over.set()
        return True

    monkeypatch.setattr(courier._hurry, "wait", wait)
    courier.start(told.append)
    assert over.wait(LONG)
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert caplog.text.count("it is started again") == 1
    assert told == [State(trouble="its writer ended (status 1)", ended=n) for n in (1, 2, 3, 4)]


def test_a_drain_does_not_wait_for_a_pause_to_end(
    box: Callable[..., Box], order: Order, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "FIRST_PAUSE", 10 * LONG)
    b = box()
    b.put(entry(0))
    b.process.kill()
    until(lambda: bool(b.trouble), "the pause", every=0.001)
    assert b.stop(LONG)
    assert trials(client, order) == {"0": [1, 2, 3]}


def test_no_writer_outlives_its_driver(order: Order, tmp_path: Path) -> None:
    """The driver is a process that is killed: nothing but the end of a pipe tells its writer."""
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from balance_tune.studies.tracking.courier import Courier\n"
        "from balance_tune.studies.tracking.outbox import Outbox\n"
        "from balance_tune.studies.tracking.writer_process import Order\n"
        "order = Order.from_json(json.loads(sys.stdin.readline()))\n"
        "box = Outbox(Path(order.queue), Courier(order))\n"
        "box.start()\n"
        "box.drain(60)\n"
        "print(box.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps(order.to_json()) + "\n")
        driver.stdin.flush()
        try:
            pid = int(driver.stdout.readline())
            assert alive(pid)
        finally:
            driver.kill()
    until(lambda: not alive(pid), "the writer's end", patience=LONG)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_signals_to_a_whole_group_do_not_end_it_and_it_gives_way_to_trials(
    box: Callable[..., Box], order: Order, client: Any
) -> None:
    b = box()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(b.process.pid, number)  # while it starts
    pid = b.process.pid
    until(lambda: NICE in priorities(pid), "a thread at low priority", patience=LONG)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    b.put(entry(0))
    assert b.drain(LONG)
    assert b.pid == pid
    assert NICE not in priorities(pid), "somebody waited"
    assert os.getsid(pid) == pid
    assert trials(client, order) == {"0": [1, 2, 3]}


def priorities(pid: int) -> set[int]:
    """Return the nice values of a process's threads."""
    return {int(p.read_text().rpartition(")")[2].split()[16]) for p in Path(f"/proc/{pid}/task").glob("*/stat")}


def test_what_it_logs_is_logged_by_the_driver(
    box: Callable[..., Box], order: Order, caplog: pytest.LogCaptureFixture
) -> None:
    b = box()
    b.put({"no": "entry"})
    assert b.stop(LONG)
    (record,) = [r for r in caplog.records if "refused" in r.getMessage()]
    assert (record.name, record.levelname) == ("balance_tune.studies.tracking.writer", "WARNING")


def test_its_trouble_is_the_drivers_and_its_command_line_holds_no_password(
    box: Callable[..., Box], order: Order
) -> None:
    away = Store("http://me:s3cret@127.0.0.1:9", None)
    b = box(dataclasses.replace(order, store=away))
    b.put(entry(0))
    until(lambda: bool(b.trouble), "its trouble", patience=LONG)
    assert "127.0.0.1" in b.trouble
    assert "s3cret" not in b.trouble
    assert b"s3cret" not in Path(f"/proc/{b.pid}/cmdline").read_bytes()
    assert not b.stop(0.5)
    assert Path(order.queue).exists()


def test_modules_are_found_where_the_driver_finds_them(
    box: Callable[..., Box], order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's own program is one that only the driver's path leads to, and answers with one line too many."""
    (tmp_path / "only_here.py").write_text(
        "import json, sys\n"
        "print('printed by a library')\n"
        "sys.stdin.readline()\n"
        'print(json.dumps({"state": {"drained": 1, "trouble": "here"}}), flush=True)\n'
        "sys.stdin.readline()\n"
    )
    monkeypatch.setattr(couriers, "PROGRAM", "only_here")
    monkeypatch.setattr(sys, "path", [str(tmp_path), tmp_path, *sys.path])  # Python itself leaves out what is no text
    b = box()
    assert b.drain(LONG)
    assert b.trouble == "here"


def test_a_store_of_another_root_is_known_to_it(tmp_path: Path) -> None:
    order = Order("q", Store("sqlite:///x", "file:///y"), "s", "1", str(tmp_path), {"d": "{}"}, ("s3://b/r", "s"), 0.5)
    assert Order.from_json(order.to_json()) == order
