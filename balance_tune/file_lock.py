"""Locks between processes of one machine, also where the file system has none (Lustre without `-o flock`, some NFS).

The kernel's lock on a file (flock) is taken where there is one. Elsewhere a name in Linux's abstract socket namespace
stands for the file: only one process can bind it, and the kernel frees it when that process dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from balance_tune.errors import UserError

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
"""What flock answers on a file system that cannot lock."""
PAUSE = 0.002  # seconds between two attempts to bind a name


class FileLock:
    """Holds the lock of an open file until it is released or the block ends; a process that dies holds nothing.

    Args:
        file: descriptor of the open file.
        path: the file's path, which stands for it where it cannot be locked itself.
        wait: wait until it is free.
        shared: let others hold it in this way too; enough for a file that is open for reading alone.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        UserError: neither the file system nor the operating system has a lock.
    """

    def __init__(self, file: int, path: Path, *, wait: bool = True, shared: bool = False) -> None:
        self._file, self._socket = file, None
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self._socket = bound(path, wait)

    @property
    def by_name(self) -> bool:
        """Whether the file system has no locks, so that processes of other machines are not kept out."""
        return self._socket is not None

    def release(self) -> None:
        """Release the lock; without effect where it is not held."""
        if self._socket is not None:
            self._socket.close()
        else:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def bound(path: Path, wait: bool) -> socket.socket:
    """Return a socket bound to the name that stands for `path`; closing it releases the name.

    Raises:
        BlockingIOError: another process has bound it, and `wait` is false.
        UserError: this operating system has no abstract sockets.
    """
    if sys.platform != "linux":
        raise UserError(f"a file system must be able to lock files, but that of {path} cannot; choose another --root.")
    name = b"\0balance_tune-" + hashlib.sha256(str(path.absolute()).encode()).hexdigest().encode()
    while True:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(name)
            return holder
        except OSError as error:
            holder.close()
            if error.errno != errno.EADDRINUSE:
                raise
            if not wait:
                raise BlockingIOError(errno.EAGAIN, "another process holds it", str(path)) from error
        time.sleep(PAUSE)
