"""One driver per study: a lock that the kernel releases when its holder dies, with the holder's name in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from balance_tune.errors import UserError


class StudyLock:
    """Holds `<folder>/lock` while the study runs; a context manager.

    The lock is the kernel's (flock): a holder that was killed holds nothing, whatever the file says, so a stale file
    is simply taken over.

    Raises:
        UserError: another process holds it; the message names that process.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> StudyLock:
        file = self.path.open("a+")
        if not _taken(file):
            file.seek(0)
            holder = _holder(file.read())
            file.close()
            raise UserError(
                f"one study must have one driver, but `{self.path.parent.name}` is being run by {holder}; "
                "wait for it or stop it (Ctrl-C there), then run again."
            )
        file.truncate(0)
        json.dump(
            {"pid": os.getpid(), "host": platform.node(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}, file
        )
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _taken(file: IO[str]) -> bool:
    for attempt in range(4):  # somebody who only looks whether the study runs holds it for a moment
        time.sleep(0.05 * attempt)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _holder(text: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(text)
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    return "another process"
