"""A queue of JSON entries that lives in a file: what was put in survives the process and is read again in order."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from balance_tune.studies import durable

COMPACT_ABOVE = 1 << 20  # bytes; a queue read to its end is emptied once it is longer
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
BLOCK = 1 << 13  # bytes read at a time; an entry of one epoch takes about 600

logger = logging.getLogger(__name__)


class Spool:
    """Append entries from any thread, read them from one; what was not `commit`-ted is read again after a crash.

    `path` holds one JSON document a line, `path` + `.sent` the number of bytes that are dealt with. An entry is in the
    file when `append` returns, so a killed process loses none; a power cut may cost the last ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = path.with_name(path.name + ".sent")
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.cut_torn_line(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._file).st_size
        self._sent = min(self._read_mark(), self._size)
        self._read_to = self._sent

    def append(self, entry: dict[str, Any]) -> None:
        """Put one JSON-able entry at the end. Raises OSError when the disk refuses it."""
        line = _COMPACT.encode(entry).encode() + b"\n"
        with self._lock:
            written = os.write(self._file, line)
            if written != len(line):  # a full disk: half a line would spoil the next one
                os.ftruncate(self._file, self._size)
                raise OSError(f"only {written} of {len(line)} bytes fitted into {self.path}")
            self._size += len(line)

    def read(self, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield up to `limit` entries not read yet, each with the position where it begins."""
        for _ in range(limit):
            start = self._read_to
            line = self._line_at(start)
            if line is None:
                return
            self._read_to = start + len(line)
            try:
                entry = json.loads(line)
            except ValueError:  # a power cut can leave a hole; the entries around it are sound
                logger.warning("%s holds no entry at byte %d; left out.", self.path, start)
                continue
            yield start, entry

    def commit(self, position: int) -> None:
        """Never read again what begins before `position`."""
        if position == self._sent:
            return
        with self._lock:
            self._sent = position
            if position == self._size and self._size > COMPACT_ABOVE:
                self._write_mark(0)  # first the mark: a crash in between sends entries twice, never loses one
                os.ftruncate(self._file, 0)
                self._size = self._sent = self._read_to = 0
            else:
                self._write_mark(position)

    @property
    def read_to(self) -> int:
        """Position up to which entries were read."""
        return self._read_to

    @property
    def unread(self) -> bool:
        return self._read_to < self._size

    @property
    def empty(self) -> bool:
        """Whether everything ever appended is committed."""
        return self._sent >= self._size

    def close(self) -> None:
        """Close the file; an empty queue leaves none behind."""
        with self._lock:
            if self._file < 0:
                return
            os.close(self._file)
            self._file = -1
            if self.empty:
                self.path.unlink(missing_ok=True)
                self._mark.unlink(missing_ok=True)

    def _line_at(self, start: int) -> bytes | None:
        parts: list[bytes] = []
        at = start
        while at < self._size:
            block = os.pread(self._file, BLOCK, at)
            if not block:
                return None
            end = block.find(b"\n")
            if end >= 0:
                return b"".join(parts) + block[: end + 1]
            parts.append(block)
            at += len(block)
        return None

    def _read_mark(self) -> int:
        try:
            mark = int(self._mark.read_text())
        except (FileNotFoundError, ValueError):  # no mark, or one torn by a power cut: send all of it again
            return 0
        return mark if mark == 0 or os.pread(self._file, 1, mark - 1) == b"\n" else 0

    def _write_mark(self, position: int) -> None:
        self._mark.write_text(str(position))
