"""Writes files so that a crash leaves either the old content or the new one, and never half a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from balance_tune.datasets.remains import sync
from balance_tune.errors import UserError

TEMPORARY = ".tmp"


def write(path: Path, content: str | bytes, *, lasting: bool = True) -> None:
    """Put `content` under `path` at once: a temporary file in the same folder, fsync, rename.

    Without `lasting` there is no fsync: a power cut may take the file, a process that dies may not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if lasting:
        sync(path.parent)


def adopt(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder to its final name after flushing its content to disk."""
    for item in [temporary, *temporary.rglob("*")]:
        sync(item)
    temporary.rename(path)
    sync(path.parent)


def sweep(folder: Path) -> None:
    """Remove half-written files of killed writers below `folder`; no writer may be active there."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def as_json(value: Any) -> str:
    """Return the text of a JSON file."""
    return json.dumps(value, indent=1) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as `write` does."""
    write(path, as_json(value))


def append(file: IO[bytes], text: str, *, sync: bool = True) -> None:
    """Append `text` to an unbuffered file in one piece; a write that fails half-way (disk full) is taken back."""
    end = file.seek(0, os.SEEK_END)
    data = text.encode()
    try:
        while data:
            data = data[file.write(data) :]
        if sync:
            os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def cut_torn_line(path: Path) -> None:
    """Drop what follows the last line break: an incomplete line that a crash left, which was never acknowledged."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        keep, block = size, b""
        while keep > 0 and b"\n" not in block:
            start = max(0, keep - 65536)
            file.seek(start)
            block = file.read(keep - start)
            keep = start + block.rfind(b"\n") + 1 if b"\n" in block else start
        if keep < size:
            file.truncate(keep)
            os.fsync(file.fileno())


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; a torn last line is left out, damage further up is a `UserError`."""
    if path.exists():
        yield from (value for _, value in json_lines_from(path, 0))


def json_lines_from(path: Path, offset: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects behind byte `offset`, where a line begins, each with the byte at which its line ends.

    Raises:
        UserError: a line is damaged; lines are counted from `offset`.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, Mapping):
                raise UserError(f"every line of {path} must be a JSON object, but line {number} is damaged.")
            yield offset, dict(value)
