"""A lock for file systems that have none: a name for this machine, a file for other machines.

For Lustre without `-o flock` and NFS without its lock daemon. On one machine a name in Linux's abstract socket
namespace keeps a second driver out. The kernel frees it when its holder dies. For other machines the holder touches a
file: one that was touched lately belongs to a driver that lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from balance_tune.file_lock import bound

INTERVAL, EXPIRY = 15.0, 90.0
"""Seconds between two touches, and seconds without one after which a holder counts as dead."""


@contextlib.contextmanager
def heartbeat_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file for the block.

    A holder that was suspended for so long that another machine took the file over stops its process cleanly.

    Args:
        path: the file; `<path>.beat` beside it is what the holder touches.

    Raises:
        BlockingIOError: another process holds it.
        UserError: this operating system has no abstract sockets.
    """
    with bound(path, wait=False):
        beat = beat_of(path)
        _take(beat)
        ended = threading.Event()
        thread = threading.Thread(target=_keep, args=(beat, ended), name="study-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if _is_mine(beat):
                beat.unlink()


def beat_of(path: Path) -> Path:
    """Return the file that the holder of the lock on `path` touches."""
    return path.with_name(path.name + ".beat")


def is_fresh(beat: Path, now: float) -> bool:
    """Return whether a holder touched the file within `EXPIRY` seconds before `now`, in the file system's time."""
    try:
        return abs(now - beat.stat().st_mtime) <= EXPIRY
    except FileNotFoundError:
        return False


def _take(beat: Path) -> None:
    """Make the file, unless a driver on another machine touched it lately."""
    with contextlib.suppress(FileNotFoundError):
        holder = beat.read_text()
        if holder != platform.node() and is_fresh(beat, _now(beat.parent)):  # on this machine it would hold the name
            raise BlockingIOError(errno.EAGAIN, f"a driver on {holder} holds it", str(beat))
        beat.unlink()
    try:
        with beat.open("x") as file:
            file.write(platform.node())
    except FileExistsError as error:  # another machine was faster
        raise BlockingIOError(errno.EAGAIN, "another driver holds it", str(beat)) from error


def _now(folder: Path) -> float:
    """Return the time by the file system's clock, from which this machine's may differ."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return Path(file.name).stat().st_mtime


def _keep(beat: Path, ended: threading.Event) -> None:
    while not ended.wait(INTERVAL):
        with contextlib.suppress(OSError):  # the file system does not answer; the driver's own writes report that
            if not _is_mine(beat):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            os.utime(beat)


def _is_mine(beat: Path) -> bool:
    """Return whether no other machine has taken the file over; on this machine the socket name excludes others."""
    return beat.is_file() and beat.read_text() == platform.node()
