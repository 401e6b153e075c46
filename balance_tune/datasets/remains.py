"""Names of what is being built: they tell who builds it, so that what a killed builder left is known and removed."""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import time
import uuid
from pathlib import Path

ABANDONED = 86400.0  # seconds after which no process on another host works on one any more
BUILDER = re.compile(r"(?P<pid>\d+)\.[0-9a-f]{32}@(?P<host>[^@]+)\.tmp$")


def signature() -> str:
    """Return the end of the name of something that this process is about to build."""
    return f"{os.getpid()}.{uuid.uuid4().hex}@{socket.gethostname()}.tmp"


def remove(folder: Path, prefix: str = ".") -> None:
    """Remove what builders that are at work no more have left in `folder`, of the names that begin with `prefix`."""
    for path in folder.glob(glob.escape(prefix) + "*"):
        builder = BUILDER.search(path.name)
        if builder is None or _at_work(path, int(builder["pid"]), builder["host"]):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Put a file's content, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _at_work(path: Path, pid: int, host: str) -> bool:
    try:
        if host != socket.gethostname():
            return time.time() - path.stat().st_mtime < ABANDONED
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):  # the latter: another has removed it
        return False
    except PermissionError:
        return True
    return True
