"""Locks between processes, on file systems that have them and on those that have not."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.file_lock import FileLock
from balance_tune.studies.storage.exclusive import exclusive, is_running
from balance_tune.studies.storage.study_folder import StudyFolder

HOLD = """
import errno, fcntl, os, sys
from pathlib import Path
if sys.argv[2] != "0":
    def flock(file, operation): raise OSError(int(sys.argv[2]), os.strerror(int(sys.argv[2])))
    fcntl.flock = flock
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.study_folder import StudyFolder
with exclusive(StudyFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
WITHOUT = [errno.ENOSYS, errno.ENOLCK]  # Lustre without `-o flock`; NFS without lockd


def hold(folder: Path, error: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(error)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def without_locks(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("error", [0, *WITHOUT])
def test_one_driver_on_any_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    if error:
        without_locks(monkeypatch, error)
    assert not is_running(StudyFolder(tmp_path))
    process = hold(tmp_path, error)
    try:
        assert is_running(StudyFolder(tmp_path))
        with (
            pytest.raises(UserError, match=f"is being run by process {process.pid} on"),
            exclusive(StudyFolder(tmp_path)),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with exclusive(StudyFolder(tmp_path)):  # a driver that was killed holds nothing
        assert is_running(StudyFolder(tmp_path))
    assert not is_running(StudyFolder(tmp_path))


def test_a_file_system_without_locks_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    with exclusive(StudyFolder(tmp_path)):
        pass
    message = capsys.readouterr().err
    assert message.count("cannot lock files") == len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "lock"]


@pytest.mark.parametrize(("age", "held"), [(10, True), (1000, False)])
def test_a_driver_on_another_machine_is_seen_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, held: bool
) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    (tmp_path / "lock").write_text('{"pid": 7, "host": "elsewhere", "since": "now"}')
    beat = tmp_path / "lock.beat"
    beat.write_text("elsewhere")
    touched = beat.stat().st_mtime - age
    os.utime(beat, (touched, touched))
    assert is_running(StudyFolder(tmp_path)) == held
    if held:
        with pytest.raises(UserError, match="process 7 on elsewhere since now"), exclusive(StudyFolder(tmp_path)):
            pass
    else:
        with exclusive(StudyFolder(tmp_path)):
            assert is_running(StudyFolder(tmp_path))


def test_a_driver_may_wait_for_its_predecessor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_TAKEOVER_S", "60")
    process = hold(tmp_path, 0)

    def end(seconds: float) -> None:
        process.kill()
        process.communicate()

    monkeypatch.setattr(time, "sleep", end)
    with exclusive(StudyFolder(tmp_path)):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_another_fault_of_the_file_system_is_no_missing_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.EIO)
    with (tmp_path / "x").open("w") as file, pytest.raises(OSError, match="Input/output"):
        FileLock(file.fileno(), tmp_path / "x")


def test_without_any_lock_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.ENOSYS)
    monkeypatch.setattr(sys, "platform", "darwin")
    with (tmp_path / "x").open("w") as file, pytest.raises(UserError, match="must be able to lock files"):
        FileLock(file.fileno(), tmp_path / "x")
