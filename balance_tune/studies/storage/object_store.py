"""An object store (S3, Google Cloud Storage, Azure): objects below a prefix, by pyarrow's file systems."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from balance_tune.datasets.address import bare, holds_secret
from balance_tune.errors import UserError
from balance_tune.reachable import check_bucket
from balance_tune.timeouts import seconds

PATIENCE = seconds("BALANCE_TUNE_OUTAGE_S")
"""Seconds for which a store that does not answer is asked again."""

LONGEST = 10.0  # seconds between two attempts
ATOMIC = ("s3", "gcs", "abfs")  # pyarrow's file systems in which an object appears when its upload is complete


class StoreUnavailable(OSError):
    """The object store did not answer, or refused, in all attempts."""


class ObjectStore:
    """The objects below one prefix, by their names relative to it.

    A failed call is repeated for `PATIENCE` seconds. After a call that failed in all attempts, further calls have one
    attempt each until one succeeds.

    Args:
        uri: the prefix as pyarrow opens it, with the query that its file system needs, without credentials.

    Raises:
        UserError: pyarrow cannot open the URI, or it names no bucket, or holds credentials.
    """

    def __init__(self, uri: str) -> None:
        from balance_tune.datasets.place import filesystem

        refuse_credentials(uri)
        check_bucket(uri)
        self.uri = uri
        self._system, self._base = filesystem(uri)
        self._failed = False
        if not self._base.strip("/"):
            raise UserError(f"the root must name a bucket, but got {bare(uri)}.")

    def address(self, name: str) -> str:
        """Return the URI of an object or prefix; the query stays at the end."""
        return join_uri(self.uri, name)

    def read(self, name: str) -> bytes:
        """Return an object's content.

        Raises:
            FileNotFoundError: there is none.
            StoreUnavailable: the store does not answer.
        """
        content: bytes = self._retry(self._read, self._key(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put an object; readers see all of it or nothing."""
        self._retry(self._write, self._key(name), content)

    def info(self, name: str) -> Any:
        """Return pyarrow's FileInfo of an object, of type NotFound where there is none."""
        return self._retry(self._system.get_file_info, self._key(name))

    def objects(self, name: str = "") -> dict[str, Any]:
        """Return pyarrow's FileInfo of every object below a prefix, by its name relative to that prefix."""
        from pyarrow import fs

        base = self._key(name)
        infos = self._retry(self._system.get_file_info, fs.FileSelector(base, recursive=True, allow_not_found=True))
        objects = {info.path[len(base) + 1 :]: info for info in infos if info.is_file}
        return {name: info for name, info in objects.items() if not {"", ".", ".."} & set(name.split("/"))}

    def folders(self) -> list[str]:
        """Return the names of the prefixes directly below this one."""
        from pyarrow import fs

        infos = self._retry(self._system.get_file_info, fs.FileSelector(self._base, allow_not_found=True))
        return [info.base_name for info in infos if info.type == fs.FileType.Directory]

    def existing(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that are objects."""
        infos = self._retry(self._system.get_file_info, [self._key(name) for name in names])
        return [name for name, info in zip(names, infos, strict=True) if info.is_file]

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        self._delete(self._system.delete_file, name)

    def delete_all(self, name: str) -> None:
        """Delete every object below a prefix."""
        self._delete(self._system.delete_dir, name)

    def check(self, name: str) -> None:
        """Write, read and delete an object, without retries.

        Raises:
            UserError: the store refuses it.
        """
        key = self._key(name)
        try:
            self._write(key, b"balance_tune")
            self._read(key)
            self._system.delete_file(key)
        except OSError as error:
            raise UserError(
                f"the root must be a place that can be written, read and cleaned, but {bare(self.uri)} cannot: "
                f"{reason(error)}; does it exist, and do the credentials of this machine allow it?"
            ) from error

    def _key(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _read(self, key: str) -> bytes:
        with self._system.open_input_stream(key) as stream:
            content: bytes = stream.read()
        return content

    def _write(self, key: str, content: bytes) -> None:
        if self._system.type_name in ATOMIC:
            with self._system.open_output_stream(key) as stream:
                stream.write(content)
            return
        parent, _, name = key.rpartition("/")
        self._system.create_dir(parent, recursive=True)
        temporary = f"{parent}/.{name}.{os.urandom(8).hex()}.tmp"
        with self._system.open_output_stream(temporary) as stream:
            stream.write(content)
        self._system.move(temporary, key)

    def _delete(self, call: Callable[[str], Any], name: str) -> None:
        try:
            self._retry(call, self._key(name))
        except FileNotFoundError:
            return

    def _retry(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call until it succeeds, for at most `PATIENCE` seconds; a missing object is an answer."""
        import logging  # imported here, because every command loads this module

        began, pause = time.monotonic(), 0.5
        patience = 0.0 if self._failed else PATIENCE
        while True:
            try:
                result = call(*args)
                self._failed = False
                return result
            except FileNotFoundError:
                raise
            except OSError as error:
                if time.monotonic() - began + pause > patience:
                    self._failed = True
                    raise StoreUnavailable(f"{bare(self.uri)} does not answer as it must: {reason(error)}") from error
                if pause == 0.5:
                    logging.getLogger(__name__).warning(
                        "%s does not answer; it is asked again for up to %.0f s.", bare(self.uri), PATIENCE
                    )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)


@lru_cache(maxsize=64)
def store_at(uri: str) -> ObjectStore:
    """Return the store at a URI, one per process: its connections and its outages are shared."""
    return ObjectStore(uri)


def refuse_credentials(uri: str) -> None:
    """Raise a `UserError` where a URI holds credentials."""
    if holds_secret(uri):
        raise UserError(
            f"the root must not hold credentials, but {bare(uri)} was given with some; leave them to the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS) or to the machine's role."
        )


def join_uri(uri: str, *names: str) -> str:
    """Return the URI of what lies below another; the query stays at the end.

    >>> join_uri("s3://bucket/studies?region=eu-west-1", "quickstart", "study.yaml")
    's3://bucket/studies/quickstart/study.yaml?region=eu-west-1'
    """
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path="/".join((parts.path.rstrip("/"), *filter(None, names)))))


def reason(error: OSError) -> str:
    """Return a file system's error message, shortened."""
    return (error.strerror or str(error)).partition("\n")[0][:200]
