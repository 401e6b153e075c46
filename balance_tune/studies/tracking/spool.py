"""A queue of JSON entries that lives in a file: one process puts in, another takes out, either may die and lose none.

`path` holds one JSON document a line, `path` + `.sent` the number of bytes that are dealt with. An entry is in the file
when `append` returns, so a killed process loses none; a power cut may cost the last ones.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from balance_tune.file_lock import FileLock
from balance_tune.studies.storage import durable

COMPACT_ABOVE = 1 << 20  # bytes; a queue read to its end is emptied once it is longer
BLOCK = 1 << 13  # bytes read at a time; an entry of one epoch takes about 600
DIGITS = 20  # of a position in the mark, so that writing one is one call
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)

logger = logging.getLogger(__name__)


class Appender:
    """The end at which entries go in, from any thread; to be opened before the other end, and by one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with FileLock(self._file, self.path):
            durable.cut_torn_line(path)

    def append(self, entry: dict[str, Any]) -> None:
        """Put one JSON-able entry at the end. Raises OSError when the disk refuses it."""
        line = _COMPACT.encode(entry).encode() + b"\n"
        with self._lock, FileLock(self._file, self.path):
            written = os.write(self._file, line)
            if written != len(line):  # a full disk: half a line would spoil the next one
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(f"only {written} of {len(line)} bytes fitted into {self.path}")

    def close(self) -> None:
        """Close the file; a queue that the other end, closed before, has dealt with leaves none behind."""
        with self._lock:
            if self._file < 0:
                return
            size = os.fstat(self._file).st_size
            os.close(self._file)
            self._file = -1
            mark = _mark_of(self.path)
            if _position(mark) == size:
                self.path.unlink(missing_ok=True)
                mark.unlink(missing_ok=True)


class Reader:
    """The end at which one thread of one process takes entries out; what it did not `commit` is read again by the next.

    `hold` comes first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._mark = os.open(_mark_of(path), os.O_RDWR | os.O_CREAT, 0o644)
        self._sent = self._read_to = 0
        self._held: FileLock | None = None

    def hold(self) -> None:
        """Wait until another reader has closed the queue or died, then begin where it was."""
        self._held = FileLock(self._mark, _mark_of(self.path))
        self._sent = self._found_mark()
        self._read_to = self._sent
        self._write_mark(self._sent)
        os.ftruncate(self._mark, DIGITS)

    def read(self, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield up to `limit` entries not read yet, each with the position where it begins."""
        size, found = os.fstat(self._file).st_size, 0
        while found < limit:
            start = self._read_to
            line = self._line_at(start, size)
            if line is None:
                return
            self._read_to = start + len(line)
            try:
                entry = json.loads(line)
            except ValueError:  # a power cut can leave a hole; the entries around it are sound
                logger.warning("%s holds no entry at byte %d; left out.", self.path, start)
                continue
            found += 1
            yield start, entry

    def commit(self, position: int) -> None:
        """Never read again what begins before `position`."""
        if position == self._sent:
            return
        self._sent = position
        if position <= COMPACT_ABOVE or not self._emptied():
            self._write_mark(position)

    @property
    def read_to(self) -> int:
        """Position up to which entries were read."""
        return self._read_to

    def close(self) -> None:
        """Let go of the queue, as the end of the process would."""
        if self._held is not None:
            self._held.release()
            self._held = None
        for name in ("_file", "_mark"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def _emptied(self) -> bool:
        """Cut the file to nothing if everything in it is committed; return whether it was."""
        if os.fstat(self._file).st_size != self._sent:  # the other end need not wait for that
            return False
        with FileLock(self._file, self.path):
            if os.fstat(self._file).st_size != self._sent:
                return False
            self._write_mark(0)  # first the mark: a crash in between sends entries twice, never loses one
            os.ftruncate(self._file, 0)
            self._sent = self._read_to = 0
            return True

    def _line_at(self, start: int, size: int) -> bytes | None:
        parts: list[bytes] = []
        at = start
        while at < size:
            block = os.pread(self._file, BLOCK, at)
            if not block:
                return None
            end = block.find(b"\n")
            if end >= 0:
                return b"".join(parts) + block[: end + 1]
            parts.append(block)
            at += len(block)
        return None

    def _found_mark(self) -> int:
        mark = _position(_mark_of(self.path))
        inside = 0 < mark <= os.fstat(self._file).st_size
        return mark if inside and os.pread(self._file, 1, mark - 1) == b"\n" else 0

    def _write_mark(self, position: int) -> None:
        os.pwrite(self._mark, f"{position:0{DIGITS}d}".encode(), 0)


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + ".sent")


def _position(mark: Path) -> int:
    try:
        return int(mark.read_text())
    except (FileNotFoundError, ValueError):  # no mark, or one torn by a power cut: send all of it again
        return 0
