"""One driver per study: a lock that the kernel releases when its holder dies, with the holder's name in it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from balance_tune.errors import UserError
from balance_tune.file_lock import FileLock
from balance_tune.timeouts import seconds

BEAT, PATIENCE = 15.0, 90.0
"""Seconds between two heartbeats of a holder, and seconds without one after which it counts as dead; only used where
the file system has no locks."""
PAUSE = 0.5  # seconds between two attempts of a driver that waits for another one


class StudyLock:
    """Holds `<folder>/lock` while the study runs; a context manager.

    The lock is the kernel's: a holder that was killed holds nothing, whatever the file says, so a stale file is simply
    taken over. Where the file system has no locks, a file `lock.beat`, which its holder touches, keeps the drivers of
    other machines out.

    Raises:
        UserError: another process holds it; the message names that process.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._file: IO[str] | None = None
        self._lock: FileLock | None = None
        self._beat: _Beat | None = None

    def __enter__(self) -> StudyLock:
        file = self.path.open("a+")
        try:
            deadline = time.monotonic() + seconds("BALANCE_TUNE_TAKEOVER_S")
            while not self._taken(file):
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise UserError(
                        f"one study must have one driver, but `{self.path.parent.name}` is being run by "
                        f"{_holder(file.read())}; wait for it or stop it (Ctrl-C there), then run again."
                    )
                time.sleep(PAUSE)
        except BaseException:
            file.close()
            raise
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
        if self._file is not None and self._lock is not None:
            self._file.truncate(0)
            if self._beat is not None:
                self._beat.end()
            self._lock.release()
            self._file.close()
            self._file = self._lock = self._beat = None

    def _taken(self, file: IO[str]) -> bool:
        lock = _locked(file, self.path)
        if lock is None:
            return False
        if lock.by_name:
            beat = _Beat(self.path)
            if not beat.begin():
                lock.release()
                return False
            self._beat = beat
            print(
                f"the file system of {self.path.parent} cannot lock files: a heartbeat in {self.path.name}.beat keeps "
                "drivers on other machines out",
                file=sys.stderr,
            )
        self._lock = lock
        return True


def is_locked(folder: Path) -> bool:
    """Return whether a driver holds the lock of the study in `folder`; nothing is written there."""
    path = folder / "lock"
    try:
        with path.open("rb") as file:
            lock = _locked(file, path, shared=True)
            if lock is None:
                return True
            with lock:
                return lock.by_name and _Beat(path).is_fresh(time.time())
    except FileNotFoundError:
        return False


def _locked(file: IO[str] | IO[bytes], path: Path, *, shared: bool = False) -> FileLock | None:
    for attempt in range(4):  # somebody who only looks whether the study runs holds it for a moment
        time.sleep(0.05 * attempt)
        with contextlib.suppress(BlockingIOError):
            return FileLock(file.fileno(), path, wait=False, shared=shared)
    return None


class _Beat:
    """A file that its holder made and touches: it tells the drivers of other machines that the study is being run."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".beat")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="study-lock", daemon=True)

    def begin(self) -> bool:
        """Make the file, unless somebody on another machine touched it lately; return whether it was made."""
        with contextlib.suppress(FileNotFoundError):
            holder = self.path.read_text()
            if holder != platform.node() and self.is_fresh(self._now()):  # on this machine its holder would have a lock
                return False
            self.path.unlink()
        try:
            with self.path.open("x") as file:
                file.write(platform.node())
        except FileExistsError:  # somebody was faster
            return False
        self._thread.start()
        return True

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def is_fresh(self, now: float) -> bool:
        """Return whether the file was touched within `PATIENCE` seconds before `now`, in the file system's time."""
        try:
            return abs(now - self.path.stat().st_mtime) <= PATIENCE
        except FileNotFoundError:
            return False

    def _now(self) -> float:
        """Return the time by the file system's clock, which another machine's may differ from."""
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as file:
            return Path(file.name).stat().st_mtime

    def _keep(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # a file system that is away; its holder meets that elsewhere
                os.utime(self.path)


def _holder(text: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(text)
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    return "another process"
