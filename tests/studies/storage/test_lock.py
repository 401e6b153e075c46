"""One driver per study."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage.lock import StudyLock

HOLD = """
import sys
from pathlib import Path
from balance_tune.studies.storage.lock import StudyLock
with StudyLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(UserError, match=f"process {process.pid} on"), StudyLock(tmp_path):
            pass
    finally:
        process.communicate()


def test_the_lock_of_a_killed_driver_is_taken_over(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    with StudyLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_the_lock_is_free_again_after_use(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        pass
    with StudyLock(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == ""
