"""A study's folder, wherever it is: a local folder, or a prefix in an object store with a working copy on this machine.

The object store holds the truth. What is written through a `StudyFolder` is uploaded as a whole object, which readers
see whole or not at all; what other machines may have written is downloaded before it is read. Of a local folder, which
every machine sees under the same path, nothing is uploaded or downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.cache_folder import cache_folder
from balance_tune.datasets import remains
from balance_tune.datasets.address import bare, expanded
from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.files import LOCAL, STATE, WEIGHTS
from balance_tune.studies.storage.object_store import ObjectStore, reason, store_at
from balance_tune.studies.wording import one_line, shown

ROOT = "BALANCE_TUNE_ROOT"
ROUNDS = 3  # listings of a folder that others write at the same time
CONNECTIONS = 16  # objects downloaded at a time


def is_small(name: str) -> bool:
    """Return whether a file is downloaded by default: all but weights and training state."""
    return name not in (STATE, WEIGHTS)


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, the root above it, or a folder in it. Names of files are relative to it.

    Attributes:
        path: the folder on this machine; where there is a store, the working copy of what is there.
        store: the object store of the root, or None where the folder is local.
        prefix: the folder's place below the store's root, "" for the root itself.
    """

    path: Path
    store: ObjectStore | None = None
    prefix: str = ""

    @classmethod
    def of(cls, folder: StudyFolder | Path) -> StudyFolder:
        """Return the folder itself, or the local folder that a path names."""
        return folder if isinstance(folder, StudyFolder) else cls(folder)

    @classmethod
    def at(cls, path: Path, location: tuple[str, str] | None) -> StudyFolder:
        """Return the folder whose `location`, of another process, is given, with `path` as its working copy."""
        return cls(path) if location is None else cls(path, store_at(location[0]), location[1])

    @property
    def location(self) -> tuple[str, str] | None:
        """The URI of the store's root and the prefix, for `at` on another machine; None for a local folder."""
        return None if self.store is None else (self.store.uri, self.prefix)

    @property
    def uri(self) -> str:
        """Where other machines find the folder: a path, or a URI with the query that its file system needs."""
        return str(self.path) if self.store is None else self.store.address(self.prefix)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def parent(self) -> StudyFolder:
        """The folder above."""
        return StudyFolder(self.path.parent, self.store, self.prefix.rpartition("/")[0])

    def __truediv__(self, name: str) -> StudyFolder:
        return StudyFolder(self.path / name, self.store, self._object(name))

    def display_uri(self, name: str = "") -> str:
        """Return where the folder, or a file in it, is, as it may be shown: without query."""
        return str(self.path / name) if self.store is None else bare(self.store.address(self._object(name)))

    # writing ----------------------------------------------------------------------------------------------------------
    def write(self, name: str, content: str | bytes) -> None:
        """Write a file at once and upload it.

        Raises:
            StoreUnavailable: the store does not take it.
        """
        durable.write(self.path / name, content)
        self.upload(name)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON, as `write` does."""
        self.write(name, durable.as_json(value))

    def upload(self, *names: str) -> None:
        """Upload files in this order, each whole; files that concern this machine alone (`LOCAL`) stay here."""
        if self.store is not None:
            for name in names:
                if not _is_local(name):
                    content = (self.path / name).read_bytes()  # first: a failing disk must not cut an upload short
                    self.store.write(self._object(name), content)

    def upload_all(self, last: str = "") -> None:
        """Upload every file of the folder, `last` at the end: readers take it as the sign that all are there."""
        files = [path for path in self.path.rglob("*") if path.is_file()] if self.store is not None else []
        self.upload(*(path.relative_to(self.path).as_posix() for path in sorted(files, key=lambda p: p.name == last)))

    def remove(self, name: str) -> None:
        """Remove a file, here and in the store, if it exists."""
        (self.path / name).unlink(missing_ok=True)
        if self.store is not None:
            self.store.delete(self._object(name))

    def clear_store(self, keep: tuple[str, ...] = ()) -> None:
        """Delete every object below the folder except those directly in it that `keep` names; local files stay."""
        if self.store is None:
            return
        if not keep:
            self.store.delete_all(self.prefix)
            return
        for name in self.store.objects(self.prefix):
            if name not in keep:
                self.store.delete(self._object(name))

    # reading ----------------------------------------------------------------------------------------------------------
    def download(self, is_wanted: Callable[[str], bool] = is_small) -> None:
        """Make the working copy equal to the store: download files that are wanted, remove those that are gone there.

        Args:
            is_wanted: whether a file of this name (without its folders) is downloaded; the others are removed here only
                where the store has a newer one.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if self.store is None:
            return
        from concurrent.futures import ThreadPoolExecutor

        for _ in range(ROUNDS):
            objects = {name: info for name, info in self.store.objects(self.prefix).items() if not _is_local(name)}
            stale = {name for name, info in objects.items() if not _is_same(self.path / name, info)}
            missing = {name for name in stale if is_wanted(name.rpartition("/")[2])}
            for path in self.path.rglob("*") if self.path.is_dir() else ():
                name = path.relative_to(self.path).as_posix()
                if not path.is_file() or path.name.endswith(durable.TEMPORARY) or _is_local(name):
                    continue
                if name not in objects or name in stale - missing:  # a missing one is replaced when it has arrived
                    path.unlink(missing_ok=True)
            if not missing:
                return
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                downloads = [pool.submit(self._download, name, objects[name]) for name in missing]
            for download in downloads:
                download.result()

    def download_file(self, name: str) -> Path:
        """Return a file's path after bringing it to the state of the store; it does not exist if the store has none.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        path = self.path / name
        for _ in range(ROUNDS if self.store is not None else 0):
            assert self.store is not None
            info = self.store.info(self._object(name))
            if not info.is_file:
                path.unlink(missing_ok=True)
                break
            if _is_same(path, info):
                break
            self._download(name, info)
        return path

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are files, in the store where the folder is in one."""
        if self.store is None:
            return [name for name in names if (self.path / name).is_file()]
        objects = self.store.objects(self.prefix)  # one listing is faster than a question for each name
        return [name for name in names if name in objects]

    def studies(self) -> list[str]:
        """Return the names of the studies below a root, sorted.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if self.store is None:
            return sorted(path.parent.name for path in self.path.glob("*/study.yaml"))
        files = self.store.existing([f"{name}/study.yaml" for name in self.store.folders()])
        return sorted(name.rpartition("/")[0] for name in files)

    def check_writable(self) -> None:
        """Make the folder where it is missing, write a file into it and remove it; so too in the store.

        Raises:
            UserError: it cannot be done.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else error
            raise UserError(
                one_line(f"the root must be a folder that can be written, but {self.path}: {why}; choose another.")
            ) from error
        if self.store is not None:
            self.store.check(self._object(f".preflight-{os.urandom(8).hex()}"))

    def _object(self, name: str) -> str:
        return "/".join(filter(None, (self.prefix, name)))

    def _download(self, name: str, info: Any) -> None:
        assert self.store is not None
        try:
            content = self.store.read(self._object(name))
        except FileNotFoundError:  # deleted since it was listed
            return
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}{durable.TEMPORARY}")
        try:
            temporary.write_bytes(content)
            os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))  # by which `_is_same` knows it
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _is_local(name: str) -> bool:
    """Return whether a file of a study's folder concerns this machine alone."""
    first = name.partition("/")[0]
    return first in LOCAL or first.startswith(("ray.log.", "mlflow.queue."))


def _is_same(path: Path, info: Any) -> bool:
    try:
        local = path.stat()
    except FileNotFoundError:
        return False
    return (local.st_size, local.st_mtime_ns) == (info.size, info.mtime_ns)


def root_folder(text: str, *, driver: bool = False) -> StudyFolder:
    """Return the root that `text` names; it need not exist.

    Args:
        text: a path, or a URI that pyarrow opens (s3://, gs://, ...).
        driver: whether a study is run there; its working copy of a store is another than that of readers.

    Raises:
        UserError: it is neither, or holds credentials.
    """
    if "://" in text and not text.startswith("file://"):
        import hashlib

        store = store_at(text)
        name = hashlib.sha256(bare(text).encode()).hexdigest()[:16]
        return StudyFolder(cache_folder() / "roots" / name / ("run" if driver else "look"), store)
    if re.match(r"[A-Za-z0-9+]+:/[^/]", text):
        raise UserError(f"a root in an object store must be given as text, s3://bucket/prefix, but got {shown(text)}.")
    return StudyFolder(expanded(text.removeprefix("file://")))


@contextmanager
def trial_folder(config: Mapping[str, Any]) -> Iterator[StudyFolder]:
    """Yield the folder that a trial, or its sealed evaluation, works in.

    Args:
        config: its "folder" is the path; where it has a "location" (of a `StudyFolder`), a new folder of this node is
            the working copy instead, which is empty at first and removed in the end.
    """
    location = config.get("location")
    if location is None:
        yield StudyFolder(Path(config["folder"]))
        return
    base = cache_folder() / "trials"
    base.mkdir(parents=True, exist_ok=True)
    remains.remove(base)  # of processes that were killed
    path = base / f".trial.{remains.signature()}"
    path.mkdir()
    try:
        yield StudyFolder.at(path, tuple(location))
    finally:
        shutil.rmtree(path, ignore_errors=True)
