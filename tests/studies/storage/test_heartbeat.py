"""A lock where the file system has none."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

import pytest

from balance_tune.studies.storage import heartbeat
from balance_tune.studies.storage.heartbeat import EXPIRY, beat_of, heartbeat_lock, is_fresh


def test_a_second_holder_on_this_machine_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with heartbeat_lock(path):
        assert beat_of(path).read_text() == platform.node()
        with pytest.raises(BlockingIOError):
            heartbeat_lock(path).__enter__()
    assert not beat_of(path).exists()
    with heartbeat_lock(path):
        pass


def test_a_holder_on_another_machine_is_respected_while_its_file_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    beat_of(path).write_text("another-machine")
    with pytest.raises(BlockingIOError, match="another-machine"):
        heartbeat_lock(path).__enter__()
    then = beat_of(path).stat().st_mtime - EXPIRY - 1
    os.utime(beat_of(path), (then, then))
    with heartbeat_lock(path):
        assert beat_of(path).read_text() == platform.node()


def test_a_holder_of_this_machine_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    beat_of(path).write_text(platform.node())  # fresh, but its process no longer holds the name
    with heartbeat_lock(path):
        pass


def test_a_holder_that_another_machine_followed_stops_and_leaves_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    stopped = threading.Event()
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    monkeypatch.setattr(os, "kill", lambda pid, number: stopped.set())
    with heartbeat_lock(path):
        beat_of(path).write_text("another-machine")
        assert stopped.wait(30)
    assert beat_of(path).read_text() == "another-machine"


def test_a_file_from_the_future_is_not_fresh(tmp_path: Path) -> None:
    beat = beat_of(tmp_path / "lock")
    beat.touch()
    now = beat.stat().st_mtime
    assert is_fresh(beat, now)
    assert not is_fresh(beat, now - heartbeat.EXPIRY - 1)
    assert not is_fresh(beat.with_name("none"), now)
