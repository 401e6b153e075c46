"""Where a store lies: a folder, or a URI that pyarrow's file systems understand (s3://, gs://, hdfs://, file://)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.datasets import remains
from balance_tune.datasets.address import bare, expanded
from balance_tune.errors import UserError

REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(where: str | Path) -> bool:
    """Whether `where` is a URI of something that is no local folder."""
    return REMOTE.match(str(where)) is not None


@dataclass(frozen=True)
class Place:
    """A folder somewhere; files appear in it whole or not at all."""

    uri: str

    @classmethod
    def of(cls, where: str | Path) -> Place:
        """Return the place of a path or URI.

        Raises:
            UserError: pyarrow does not know such a URI.
        """
        text = str(where)
        if not is_remote(text):
            return cls(str(expanded(text.removeprefix("file://"))))
        place = cls(text.rstrip("/"))
        place._filesystem()
        return place

    @property
    def local(self) -> Path | None:
        """The folder, where it is one of this machine."""
        return None if is_remote(self.uri) else Path(self.uri)

    def holds(self, name: str) -> bool:
        """Return whether a file is there.

        Raises:
            UserError: the place does not answer.
        """
        try:
            return self.size(name) is not None
        except OSError as error:
            reason = (error.strerror or str(error)).partition("\n")[0].replace(self.uri, str(self))
            raise UserError(f"{self} must be a place that can be read, but: {reason}.") from error

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, or None where there is none."""
        from pyarrow import fs

        if self.local is not None:
            path = self.local / name
            return path.stat().st_size if path.is_file() else None
        system, root = self._filesystem()
        info = system.get_file_info(f"{root}/{name}")
        return info.size if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes:
        """Return a file's content; FileNotFoundError where there is none."""
        if self.local is not None:
            return (self.local / name).read_bytes()
        system, root = self._filesystem()
        with system.open_input_stream(f"{root}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place whole."""
        if self.local is not None:
            temporary = self.temporary(name)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self.adopt(name, temporary)
            return
        system, root = self._filesystem()
        with system.open_output_stream(f"{root}/{name}") as stream:  # an object appears when its upload is complete
            stream.write(content)

    def temporary(self, name: str) -> Path:
        """Return a path of a local folder to write a file to before `adopt` puts it in place."""
        assert self.local is not None
        self.local.mkdir(parents=True, exist_ok=True)
        return self.local / f".{name}.{remains.signature()}"

    def adopt(self, name: str, path: Path) -> None:
        """Put a finished local file in place under `name`; it is moved, or uploaded and removed."""
        if self.local is not None:
            path.replace(self.local / name)
            remains.sync(self.local)
            return
        system, root = self._filesystem()
        with path.open("rb") as file, system.open_output_stream(f"{root}/{name}") as stream:
            while block := file.read(2**23):
                stream.write(block)
        path.unlink()

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.local is not None:
            (self.local / name).unlink(missing_ok=True)
        elif self.size(name) is not None:
            system, root = self._filesystem()
            system.delete_file(f"{root}/{name}")

    def names(self) -> list[str]:
        """Return the names of the files in the place, sorted; none where it does not exist."""
        from pyarrow import fs

        if self.local is not None:
            return sorted(path.name for path in self.local.iterdir()) if self.local.is_dir() else []
        system, root = self._filesystem()
        infos = system.get_file_info(fs.FileSelector(root, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.File)

    def __str__(self) -> str:
        return bare(self.uri)

    def _filesystem(self) -> tuple[Any, str]:
        return filesystem(self.uri)


def filesystem(uri: str) -> tuple[Any, str]:
    """Return pyarrow's file system of a URI, and the path in it."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        system, root = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].replace(uri, bare(uri))
        raise UserError(
            f"a place must be a folder or a URI that pyarrow can open, but got {bare(uri)}: {reason}."
        ) from error
    return system, root.rstrip("/")
