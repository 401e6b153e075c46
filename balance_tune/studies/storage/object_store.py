"""Studies whose root is an object store: a local folder stands for a prefix there, file by file and object by object.

The store holds the truth. What is written below such a folder is put there as a whole object, which readers see whole
or not at all; what others may have written is fetched before it is read. A folder of which nothing was said here stands
for itself, and every function below leaves it alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from balance_tune.cache_folder import cache_folder
from balance_tune.datasets.address import bare, holds_secret
from balance_tune.errors import UserError
from balance_tune.file_lock import FileLock
from balance_tune.reachable import check_bucket
from balance_tune.timeouts import seconds

PATIENCE = seconds("BALANCE_TUNE_OUTAGE_S")
"""Seconds for which a store that does not answer is waited for."""

LONGEST = 10.0  # seconds between two attempts
ROUNDS = 3  # looks at objects that others write meanwhile
AT_ONCE = 16  # objects fetched at a time
ABANDONED = 60.0  # seconds after which a folder that nobody holds counts as left by a process that was killed
STATE, WEIGHTS, HISTORY = "state.pt", "best.safetensors", "history.jsonl"
OWN = (
    "lock",
    "ray.log",
    "mlflow.queue",
    "ledger.jsonl",
    ".tune",
)  # of this machine alone: never fetched, never removed
WHOLE = ("s3", "gcs", "abfs")  # file systems of pyarrow in which an object appears when its upload is complete


class Away(OSError):
    """The object store does not take or give what it must, and was waited for long enough."""


@dataclass(frozen=True)
class Mirror:
    """A folder of this machine, and what it stands for: a root's URI, with the query that its file system needs, or
    what lies `below` it."""

    folder: Path
    uri: str
    below: str = ""

    def names(self, path: Path) -> tuple[str, ...]:
        """Return what leads from the root to a file or folder of this one."""
        return (*filter(None, self.below.split("/")), *path.relative_to(self.folder).parts)

    def address(self, path: Path) -> str:
        """Return the URI of a file or folder in it."""
        return joined(self.uri, *self.names(path))

    def key(self, path: Path) -> tuple[Any, str]:
        """Return pyarrow's file system, and the path in it that a local one stands for."""
        system, base = _system(self.uri)
        return system, "/".join((base, *self.names(path)))


_mirrors: dict[Path, Mirror] = {}  # by folder, in this process
_given_up: set[str] = set()  # roots that were waited for in vain, and have not answered since


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror that a path lies in, if it lies in one."""
    if not _mirrors:
        return None
    return next((_mirrors[folder] for folder in (path, *path.parents) if folder in _mirrors), None)


def mirrored(uri: str, use: str) -> Path:
    """Return the local folder that stands for a root at `uri`, one for each `use`: a driver's and a reader's differ.

    Raises:
        UserError: pyarrow opens no such URI, or it holds a key.
    """
    import hashlib

    refuse_keys(uri)
    check_bucket(uri)
    _system(uri)
    folder = cache_folder() / "roots" / hashlib.sha256(bare(uri).encode()).hexdigest()[:16] / use
    _mirrors[folder] = Mirror(folder, uri)
    return folder


def know(folder: Path, uri: str, below: str) -> None:
    """Let a folder stand in this process for what it stands for in another: see `home`."""
    _mirrors[folder] = Mirror(folder, uri, below)


def refuse_keys(uri: str) -> None:
    """Raise a `UserError` where a URI holds credentials."""
    if holds_secret(uri):
        raise UserError(
            f"the root must not hold credentials, but {bare(uri)} was given with some; leave them to the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS) or to the machine's role."
        )


def joined(uri: str, *names: str) -> str:
    """Return the URI of what lies below another; the query stays at the end."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path="/".join((parts.path.rstrip("/"), *names))))


def where(path: Path) -> str:
    """Return where something lies, for a message: its address in the store, or the path itself."""
    mirror = mirror_of(path)
    return str(path) if mirror is None else bare(mirror.address(path))


def address(path: Path) -> str | None:
    """Return the URI that a path stands for; None where it stands for itself."""
    mirror = mirror_of(path)
    return None if mirror is None else mirror.address(path)


def home(path: Path) -> tuple[str, str] | None:
    """Return what other machines need to work in a folder of a store: its root's URI, and the way from there."""
    mirror = mirror_of(path)
    return None if mirror is None else (mirror.uri, "/".join(mirror.names(path)))


# writing --------------------------------------------------------------------------------------------------------------
def put(*paths: Path) -> None:
    """Put files into the store, each at once and whole, in this order; not those that concern this machine alone.

    Raises:
        Away: the store does not take one.
    """
    for path in paths:
        mirror = mirror_of(path)
        if mirror is not None and not _own(mirror, path):
            content = path.read_bytes()  # before: an upload that a failing disk cuts short would be completed
            _insist(mirror, _write, *mirror.key(path), content)


def _write(system: Any, key: str, content: bytes) -> None:
    if system.type_name in WHOLE:
        with system.open_output_stream(key) as stream:
            stream.write(content)
        return
    parent, _, name = key.rpartition("/")
    system.create_dir(parent, recursive=True)
    temporary = f"{parent}/.{name}.{_token()}.tmp"
    with system.open_output_stream(temporary) as stream:
        stream.write(content)
    system.move(temporary, key)


def published(folder: Path, last: str) -> str:
    """Return where other machines find what was made in a folder: put there file by file, the one named `last` last."""
    mirror = mirror_of(folder)
    if mirror is None:
        return str(folder)
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.name == last)
    put(*files)
    return mirror.address(folder)


def remove(path: Path) -> None:
    """Remove a file, here and in the store, if it is there."""
    path.unlink(missing_ok=True)
    mirror = mirror_of(path)
    if mirror is not None:
        system, key = mirror.key(path)
        with contextlib.suppress(FileNotFoundError):
            _insist(mirror, system.delete_file, key)


def clear(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Remove every object below a folder but those directly in it that are named in `keep`; nothing that is local."""
    mirror = mirror_of(folder)
    if mirror is None:
        return
    system, base = mirror.key(folder)
    if not keep:
        with contextlib.suppress(FileNotFoundError):
            _insist(mirror, system.delete_dir, base)
        return
    for name in _listed(mirror, folder):
        if name not in keep:
            with contextlib.suppress(FileNotFoundError):
                _insist(mirror, system.delete_file, f"{base}/{name}")


# reading --------------------------------------------------------------------------------------------------------------
def small(name: str) -> bool:
    """Return whether a file is one that is fetched without being asked for: no weights, no state."""
    return name not in (STATE, WEIGHTS)


def fetch(folder: Path, wanted: Callable[[str], bool] = small) -> None:
    """Make a folder what the store has of it: fetch the files whose name is `wanted`, drop what is there no more.

    Raises:
        Away: the store does not answer.
    """
    mirror = mirror_of(folder)
    if mirror is None:
        return
    from concurrent.futures import ThreadPoolExecutor

    for _ in range(ROUNDS):
        listed = _listed(mirror, folder)
        there = {name: info for name, info in listed.items() if not _own(mirror, folder / name)}
        stale = {name for name, info in there.items() if not _same(folder / name, info)}
        missing = {name for name in stale if wanted(name.rpartition("/")[2])}
        for path in folder.rglob("*") if folder.is_dir() else ():
            name = path.relative_to(folder).as_posix()
            of_store = path.is_file() and not path.name.endswith(".tmp") and not _own(mirror, path)
            if of_store and (name not in there or name in stale - missing):  # what is brought replaces the old at once
                path.unlink(missing_ok=True)
        if not missing:
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            bringing = [pool.submit(_bring, mirror, folder / name, there[name]) for name in missing]
        for one in bringing:
            one.result()


def fetched(path: Path) -> Path:
    """Return a file's path, with the file as the store has it; it may be missing there."""
    mirror = mirror_of(path)
    if mirror is not None:
        for _ in range(ROUNDS):
            system, key = mirror.key(path)
            info = _insist(mirror, system.get_file_info, key)
            if not info.is_file:
                path.unlink(missing_ok=True)
                break
            if _same(path, info):
                break
            _bring(mirror, path, info)
    return path


def holding(folder: Path) -> Callable[[Path], bool]:
    """Return what tells of paths below a folder whether there is a file, in the store where the folder is of one."""
    mirror = mirror_of(folder)
    if mirror is None:
        return Path.is_file
    there = {folder / name for name in _listed(mirror, folder)}
    return there.__contains__


def studies_below(root: Path) -> list[str]:
    """Return the names of the studies below a root that stands for one in a store."""
    mirror = mirror_of(root)
    assert mirror is not None
    system, base = mirror.key(root)
    from pyarrow import fs

    found = _insist(mirror, system.get_file_info, fs.FileSelector(base, allow_not_found=True))
    names = [info.base_name for info in found if info.type == fs.FileType.Directory]
    files = _insist(mirror, system.get_file_info, [f"{base}/{name}/study.yaml" for name in names])
    return sorted(name for name, info in zip(names, files, strict=True) if info.is_file)


def _listed(mirror: Mirror, folder: Path) -> dict[str, Any]:
    """Return the objects below a folder by their names relative to it."""
    from pyarrow import fs

    system, base = mirror.key(folder)
    found = _insist(mirror, system.get_file_info, fs.FileSelector(base, recursive=True, allow_not_found=True))
    names = {info.path[len(base) + 1 :]: info for info in found if info.is_file}
    return {name: info for name, info in names.items() if not {"", ".", ".."} & set(name.split("/"))}


def _read(system: Any, key: str) -> bytes:
    with system.open_input_stream(key) as stream:
        content: bytes = stream.read()
    return content


def _bring(mirror: Mirror, path: Path, info: Any) -> None:
    try:
        content = _insist(mirror, _read, *mirror.key(path))
    except FileNotFoundError:  # removed since
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_token()}.tmp")
    try:
        temporary.write_bytes(content)
        os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _token() -> str:
    return os.urandom(8).hex()


def _same(path: Path, info: Any) -> bool:
    try:
        here = path.stat()
    except FileNotFoundError:
        return False
    return (here.st_size, here.st_mtime_ns) == (info.size, info.mtime_ns)


def _own(mirror: Mirror, path: Path) -> bool:
    """Return whether a file of a study's folder concerns this machine alone."""
    name = "".join(path.relative_to(mirror.folder).parts[1:2])
    return name in OWN or name.startswith(("ray.log.", "mlflow.queue."))


# the store ------------------------------------------------------------------------------------------------------------
def check(root: Path) -> None:
    """Write, read and delete an object below a root in a store.

    Raises:
        UserError: the store refuses it.
    """
    mirror = mirror_of(root)
    assert mirror is not None
    mark = root / f".preflight-{_token()}"
    system, key = mirror.key(mark)
    try:
        _write(system, key, b"balance_tune")
        _read(system, key)
        system.delete_file(key)
    except OSError as error:
        raise UserError(
            f"the root must be a place that can be written, read and cleaned, but {bare(mirror.uri)} cannot: "
            f"{said(error)}; does it exist, and do the credentials of this machine allow it?"
        ) from error


def said(error: OSError) -> str:
    """Return what a file system says is wrong, in a few words."""
    return (error.strerror or str(error)).partition("\n")[0][:200]


@lru_cache(maxsize=64)
def _system(uri: str) -> tuple[Any, str]:
    from balance_tune.datasets.place import filesystem

    system, base = filesystem(uri)
    if not base.strip("/"):
        raise UserError(f"the root must name a bucket, but got {bare(uri)}.")
    return system, base


def _insist(mirror: Mirror, act: Callable[..., Any], *given: Any) -> Any:
    """Do something in the store; where it does not answer, again and again for `PATIENCE` seconds."""
    import logging  # not before: every command loads this module

    began, pause = time.monotonic(), 0.5
    patience = 0.0 if mirror.uri in _given_up else PATIENCE
    while True:
        try:
            done = act(*given)
            _given_up.discard(mirror.uri)
            return done
        except FileNotFoundError:
            raise
        except OSError as error:
            if time.monotonic() - began + pause > patience:
                _given_up.add(mirror.uri)
                raise Away(f"{bare(mirror.uri)} does not answer as it must: {said(error)}") from error
            if pause == 0.5:
                logging.getLogger(__name__).warning(
                    "%s does not answer; it is waited for up to %.0f s.", bare(mirror.uri), PATIENCE
                )
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


# on a node ------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def working_folder(config: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the folder that a trial (or its sealed evaluation) works in.

    That is `config["folder"]`; where there is a "home" (see `home`), it is a new folder of this node that stands for
    it, empty until somebody fetches, and gone afterwards.
    """
    there = config.get("home")
    if there is None:
        yield Path(config["folder"])
        return
    base = cache_folder() / "trials"
    base.mkdir(parents=True, exist_ok=True)
    _sweep(base)
    with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as made, _held(Path(made)):
        folder = Path(made) / "trial"
        folder.mkdir()
        know(folder, *there)
        try:
            yield folder
        finally:
            del _mirrors[folder]


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    path = folder / "lock"
    with path.open("w") as file, FileLock(file.fileno(), path):
        yield


def _sweep(base: Path) -> None:
    """Remove the folders that processes of this node which were killed have left."""
    for left in base.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                path = left / "lock"
                with path.open("a") as file, FileLock(file.fileno(), path, wait=False):  # or it is at work
                    shutil.rmtree(left, ignore_errors=True)
