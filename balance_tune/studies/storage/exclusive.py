"""One driver per study, on whatever machine: `exclusive` holds a study, `is_running` tells readers whether it is held.

Two locks, each where it can be had. The file system locks `<folder>/lock` (flock): the kernel releases it when its
holder dies, whatever the file says. Where the file system has no locks, a heartbeat stands in (`heartbeat`). Where a
database holds the trials, so does a row in it (`database_lock`), which reaches machines that the file lock does not.
Readers take neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.file_lock import UNSUPPORTED
from balance_tune.studies.storage.database import place_of, shared_database
from balance_tune.studies.storage.files import LOCK
from balance_tune.studies.storage.heartbeat import beat_of, heartbeat_lock, is_fresh
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.timeouts import seconds

WAIT = 0.5  # seconds: a reader that asks whether the study runs holds the lock for a moment
PAUSE = 0.1  # seconds between two attempts where the file system has no locks


@contextmanager
def exclusive(folder: StudyFolder) -> Iterator[Exclusive]:
    """Hold a study while a block runs, so that no other driver runs, changes or deletes it.

    Raises:
        UserError: another process holds the study, which the message names; or nothing there can lock it.
    """
    with ExitStack() as stack:
        stack.enter_context(_file_lock(folder.path / LOCK))
        locks = Exclusive(folder)
        stack.callback(locks.close)
        locks.extend()
        yield locks


class Exclusive:
    """The locks that a driver holds on a study."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._held_row: tuple[str, str] | None = None
        self._row = ExitStack()

    def extend(self) -> None:
        """Lock the study's database row too. To be called again once the study has begun in a database.

        Raises:
            UserError: as `exclusive` does.
        """
        row = _row(self._folder)
        if row is None or row == self._held_row:
            return
        from balance_tune.studies.storage.database_lock import DatabaseLock

        with ExitStack() as stack:
            stack.enter_context(DatabaseLock(*row))
            self._row.close()
            self._row, self._held_row = stack.pop_all(), row

    def close(self) -> None:
        """Release the database's row."""
        self._row.close()


def is_running(folder: StudyFolder) -> bool:
    """Return whether a driver that lives, on whatever machine, holds a study.

    Raises:
        UserError: the database does not answer.
    """
    row = _row(folder)
    if row is not None:
        from balance_tune.studies.storage.database_lock import is_held

        if is_held(*row):
            return True
    return folder.store is None and _file_is_locked(folder.path / LOCK)


def _row(folder: StudyFolder) -> tuple[str, str] | None:
    """Return the database and key of a study's row; None where the trials are, or will be, in no database.

    Of an object store the key is the address, which is known before the study has a name in the database.
    """
    if folder.store is not None:
        return shared_database(folder.parent), _key(bare(folder.uri))
    return place_of(folder.path)


def _key(place: str) -> str:
    return f"{hashlib.sha256(place.encode()).hexdigest()[:32]}@address"


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a file for the block, with the holder's name in it."""
    with ExitStack() as stack:
        wait = max(WAIT, seconds("BALANCE_TUNE_TAKEOVER_S"))
        lock = FileLock(path, timeout=wait, poll_interval=0.05, thread_local=False, fallback_to_soft=False)
        try:
            try:
                lock.acquire()
                stack.callback(lock.release)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                stack.enter_context(_wait_for_heartbeat_lock(path, wait))
                print(
                    f"the file system of {path.parent} cannot lock files: a heartbeat in {beat_of(path).name} keeps "
                    "drivers on other machines out",
                    file=sys.stderr,
                )
        except (Timeout, BlockingIOError):
            raise UserError(
                f"one study must have one driver, but `{path.parent.name}` is being run by {_holder(path)}; "
                "wait for it or stop it (Ctrl-C there), then run again."
            ) from None
        except OSError as error:
            raise UserError(f"a study's lock must be writable, but {path}: {error.strerror}.") from error
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        holder = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since})
        with contextlib.suppress(OSError):  # a full disk: the name is for messages only
            path.write_text(holder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the study may have been deleted
                os.truncate(path, 0)


@contextmanager
def _wait_for_heartbeat_lock(path: Path, wait: float) -> Iterator[None]:
    """Hold the heartbeat lock of a file, for which a driver waits as long as for a lock of the file system."""
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(heartbeat_lock(path))
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)
        yield


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # the holder has not written its name yet
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    return "another process"


def _file_is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:  # there is no such file, or the file system has no locks
        return error.errno in UNSUPPORTED and is_fresh(beat_of(path), time.time())
    return False
