"""The queue on disk: order kept, nothing lost by a crash, nothing kept that is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.tracking.spool import COMPACT_ABOVE, Spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue"


def read_all(spool: Spool) -> list[dict[str, Any]]:
    return [entry for _, entry in spool.read(1_000_000)]


def test_entries_come_back_in_the_order_they_were_put(path: Path) -> None:
    spool = Spool(path)
    for i in range(1000):
        spool.append({"i": i, "text": "ü/モ" * (i % 50)})
    assert [entry["i"] for entry in read_all(spool)] == list(range(1000))
    assert not spool.unread


def test_what_was_not_committed_is_read_again_after_a_crash(path: Path) -> None:
    spool = Spool(path)
    for i in range(10):
        spool.append({"i": i})
    positions = [position for position, _ in spool.read(10)]
    spool.commit(positions[4])
    assert [entry["i"] for entry in read_all(Spool(path))] == [4, 5, 6, 7, 8, 9]


def test_a_line_torn_by_a_crash_is_dropped_and_the_next_one_is_whole(path: Path) -> None:
    Spool(path).append({"i": 0})
    with path.open("ab") as file:
        file.write(b'{"i": 1, "ha')
    spool = Spool(path)
    spool.append({"i": 2})
    assert [entry["i"] for entry in read_all(spool)] == [0, 2]


def test_a_hole_in_the_file_costs_only_its_own_entry(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b'{"i": 0}\n' + bytes(20) + b'\n{"i": 2}\n')
    assert [entry["i"] for entry in read_all(Spool(path))] == [0, 2]
    assert "left out" in caplog.text


@pytest.mark.parametrize("mark", ["", "7", "nonsense", "99999"])
def test_a_torn_mark_sends_entries_again_rather_than_losing_one(path: Path, mark: str) -> None:
    Spool(path).append({"i": 0})
    path.with_name("queue.sent").write_text(mark)
    assert read_all(Spool(path)) == [{"i": 0}]


def test_a_long_queue_that_is_done_is_emptied_and_goes_on(path: Path) -> None:
    spool = Spool(path)
    for i in range(3):
        spool.append({"i": i, "text": "x" * COMPACT_ABOVE})
    read_all(spool)
    spool.commit(spool.read_to)
    assert path.stat().st_size == 0
    assert spool.empty
    spool.append({"i": 3})
    assert read_all(Spool(path)) == [{"i": 3}]


def test_a_queue_that_is_done_leaves_no_files(path: Path, tmp_path: Path) -> None:
    spool = Spool(path)
    spool.append({"i": 0})
    read_all(spool)
    spool.commit(spool.read_to)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_is_not_done_stays(path: Path) -> None:
    spool = Spool(path)
    spool.append({"i": 0})
    spool.close()
    assert read_all(Spool(path)) == [{"i": 0}]
