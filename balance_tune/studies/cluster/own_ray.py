"""Prepares this machine for a Ray that the study starts: a folder for sockets, a private token, the user's modules."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from balance_tune.errors import UserError

LOOPBACK = "127.0.0.1"
"""The address that a study's own Ray takes for its node's: its servers then listen there alone."""
LONGEST_SOCKET = 107 if sys.platform == "linux" else 103  # bytes of a socket's path
BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.0")
"""What Ray puts below its folder for its longest socket."""


SHARED_MEMORY = "/dev/shm"
MIB = 2**20


def ray_folder() -> str | None:
    """Return a folder for a Ray that is started here; None where Ray's own choice will do.

    Ray takes `ray` below RAY_TMPDIR, TMPDIR or /tmp. Below a long TMPDIR (a batch system's) its sockets would have
    longer paths than the system allows, and a /tmp/ray of another user may not be writable.

    Raises:
        UserError: there is no other folder either.
    """
    usual = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
    if _fits(usual) and _usable(usual):
        return None
    user = os.getuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for place in filter(None, ("/tmp", runtime, "/var/tmp", "/dev/shm")):
        folder = Path(place) / f"ray-{user}"
        if _fits(folder) and _private(folder):
            return str(folder)
    raise UserError(
        f"Ray must have a folder for its sockets, of at most {LONGEST_SOCKET - BELOW} characters, but {usual} is "
        "longer or not writable, and so is /tmp; set RAY_TMPDIR to a short folder of your own."
    )


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder.absolute())) + BELOW <= LONGEST_SOCKET


def _usable(folder: Path) -> bool:
    """Return whether Ray can make its files in a folder, which it makes itself where it is missing."""
    there = folder if folder.exists() else folder.parent
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _private(folder: Path) -> bool:
    """Make a folder that is this user's alone; return whether it is."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    return False


def shared_memory_free() -> int | None:
    """Return the bytes that are free in /dev/shm; None where there is none."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return status.f_frsize * status.f_bavail


def small_shared_memory(free: int | None, needed: int) -> str | None:
    """Return one line where Ray's object store does not fit into /dev/shm, else None.

    Args:
        free: bytes that are free in /dev/shm; None where there is none.
        needed: bytes of the object store.
    """
    if free is None or free >= needed:
        return None
    return (
        f"/dev/shm has {free / MIB:.0f} MiB free, and Ray's object store takes {needed / MIB:.0f}, so Ray keeps it in "
        "its temporary folder, which is slower; give the container more: `docker run --shm-size=2g`, or a Memory "
        "volume."
    )


def is_on_loopback(host: str, port: int) -> bool:
    """Return whether a server at a loopback address is unreachable at this machine's network address."""
    with contextlib.suppress(ValueError):
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            return False
    from ray.util import get_node_ip_address

    try:
        socket.create_connection((get_node_ip_address(), port), timeout=1).close()
    except OSError:
        return True
    return False


@contextlib.contextmanager
def modules_for_workers() -> Iterator[None]:
    """Let a Ray that is started in the block import what this process can: `sys.path` becomes its PYTHONPATH.

    Ray itself passes on the folder of the script and the working folder alone. Python's own folders are left out.
    """
    before = os.environ.get("PYTHONPATH")
    folders = (Path(entry).absolute() for entry in sys.path if isinstance(entry, str))
    paths = dict.fromkeys(os.path.normpath(folder) for folder in folders if not _is_pythons(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _is_pythons(folder: Path) -> bool:
    """Return whether a folder of sys.path is the standard library's or one of installed packages."""
    library, real = Path(os.__file__).resolve().parent, folder.resolve()
    installed = any(part in ("site-packages", "dist-packages") for part in real.parts)
    is_zip = real.suffix == ".zip" and real.parent == library.parent
    return installed or is_zip or library in (real, *real.parents)


def private_token() -> None:
    """Put the token of a Ray that is started here into a file that only its user can read.

    Ray writes `~/.ray/auth_token` so that all may read it; here it is made beforehand, with mode 600. Where the home
    folder cannot be written, the token is in the environment of this process and its children alone.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    place = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(place) if place else Path.home() / ".ray" / "auth_token"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        elif path.stat().st_uid == os.getuid() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
    except FileExistsError:  # another study created it meanwhile
        return
    except OSError:
        if not path.exists():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
