"""The queue on disk: order kept, nothing lost by a crash of either end, nothing kept that is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.tracking import spool as spooling
from balance_tune.studies.tracking.spool import COMPACT_ABOVE, DIGITS, Appender, Reader

LONG = 60.0  # seconds: far beyond what any of these tests takes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    reader.hold()
    try:
        yield reader
    finally:
        reader.close()


def all_of(reader: Reader) -> list[dict[str, Any]]:
    return [entry for _, entry in reader.read(1_000_000)]


def read_all(path: Path) -> list[dict[str, Any]]:
    with reading(path) as reader:
        return all_of(reader)


def append(path: Path, *entries: dict[str, Any]) -> None:
    appender = Appender(path)
    for entry in entries:
        appender.append(entry)
    appender.close()


def test_entries_come_back_in_the_order_they_were_put(path: Path) -> None:
    append(path, *({"i": i, "text": "ü/モ" * (i % 50)} for i in range(1000)))
    with reading(path) as reader:
        assert [entry["i"] for entry in all_of(reader)] == list(range(1000))
        assert reader.read_to == path.stat().st_size


def test_what_was_not_committed_is_read_again_after_a_crash(path: Path) -> None:
    append(path, *({"i": i} for i in range(10)))
    with reading(path) as reader:
        positions = [position for position, _ in reader.read(10)]
        reader.commit(positions[4])
    assert [entry["i"] for entry in read_all(path)] == [4, 5, 6, 7, 8, 9]


def test_a_line_torn_by_a_crash_is_dropped_and_the_next_one_is_whole(path: Path) -> None:
    append(path, {"i": 0})
    with path.open("ab") as file:
        file.write(b'{"i": 1, "ha')
    append(path, {"i": 2})
    assert [entry["i"] for entry in read_all(path)] == [0, 2]


def test_a_line_that_is_not_whole_yet_is_waited_for(path: Path) -> None:
    append(path, {"i": 0})
    with reading(path) as reader, path.open("ab", buffering=0) as file:
        file.write(b'{"i": ')
        assert all_of(reader) == [{"i": 0}]
        file.write(b"1}\n")
        assert all_of(reader) == [{"i": 1}]


def test_a_hole_in_the_file_costs_only_its_own_entry(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b'{"i": 0}\n' + bytes(20) + b'\n{"i": 2}\n')
    assert [entry["i"] for entry in read_all(path)] == [0, 2]
    assert "left out" in caplog.text
    with reading(path) as reader:
        assert len(list(reader.read(2))) == 2, "it is none of those asked for"


@pytest.mark.parametrize("mark", ["", "7", "nonsense", "99999", "9" * 15, "9" * 40])
def test_a_torn_mark_sends_entries_again_rather_than_losing_one(path: Path, mark: str) -> None:
    append(path, {"i": 0})
    path.with_name("queue.sent").write_text(mark)
    assert read_all(path) == [{"i": 0}]
    assert path.with_name("queue.sent").read_text() == "0" * DIGITS


def test_a_long_queue_that_is_done_is_emptied_and_goes_on(path: Path) -> None:
    append(path, *({"i": i, "text": "x" * COMPACT_ABOVE} for i in range(3)))
    with reading(path) as reader:
        all_of(reader)
        reader.commit(reader.read_to)
        assert path.stat().st_size == reader.read_to == 0
        append(path, {"i": 3})
        assert all_of(reader) == [{"i": 3}]
    assert read_all(path) == [{"i": 3}]


def test_both_ends_at_work_lose_nothing_while_the_file_is_emptied_again_and_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "COMPACT_ABOVE", 100)
    appender, last = Appender(path), 20_000
    found: list[int] = []
    emptied = 0

    def read() -> None:
        nonlocal emptied
        with reading(path) as reader:
            while not found or found[-1] != last:
                found.extend(entry["i"] for _, entry in reader.read(7))
                reader.commit(reader.read_to)
                emptied += reader.read_to == 0

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    for i in range(last + 1):
        appender.append({"i": i})
    thread.join(LONG)
    appender.close()
    assert found == list(range(last + 1))
    assert emptied > 1


def test_a_second_reader_waits_until_the_first_has_let_go(path: Path) -> None:
    append(path, {"i": 0})
    found: list[dict[str, Any]] = []
    with reading(path) as first:
        second = threading.Thread(target=lambda: found.extend(read_all(path)), daemon=True)
        second.start()
        second.join(0.1)
        assert second.is_alive()
        all_of(first)
        first.commit(first.read_to)
    second.join(LONG)
    assert found == []


def test_a_queue_that_is_done_leaves_no_files(path: Path, tmp_path: Path) -> None:
    appender = Appender(path)
    appender.append({"i": 0})
    with reading(path) as reader:
        all_of(reader)
        reader.commit(reader.read_to)
    appender.close()
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_is_not_done_stays(path: Path) -> None:
    append(path, {"i": 0})
    assert read_all(path) == [{"i": 0}]
