"""Files that a crash leaves whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable


def test_a_write_that_fails_leaves_the_old_content_and_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    durable.write(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_append_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("one\n")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space"):
        durable.append(file, "two\n")
    assert path.read_text() == "one\n"


@settings(deadline=None)  # a busy disk
@given(st.binary(max_size=200))
def test_only_what_follows_the_last_line_break_is_cut(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("cut") / "file"
    path.write_bytes(data)
    durable.cut_torn_line(path)
    assert path.read_bytes() == data[: data.rfind(b"\n") + 1]


def test_a_torn_line_longer_than_a_block_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whole\n" + b"x" * 200_000)
    durable.cut_torn_line(path)
    assert path.read_bytes() == b"whole\n"


def test_json_lines_leave_out_a_torn_last_line_and_refuse_damage_further_up(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(durable.json_lines(path)) == [{"a": 1}]
    path.write_text('{"a": 1}\nrubbish\n{"a": 3}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        list(durable.json_lines(path))
    assert list(durable.json_lines(tmp_path / "absent")) == []


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in (".state.pt.x1.tmp", "a/.history.jsonl.12.tmp", "a/b/.best.json.q.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / "a" / "kept.tmp").write_text("not ours")
    durable.sweep(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["kept.tmp"]
