"""Finds the header of a CSV text: its separator, its names, and the line that it begins in.

Before the header there may be blank lines and `sep=;`, which Excel writes and obeys. Titles and comments are refused
with the lines that they are in: which of them belong to the table is for its writer to say.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from balance_tune.errors import UserError

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # programs leave them behind, and no editor shows them
SEPARATORS = (",", ";", "\t")
OTHER_SEPARATORS = {"|": "`|`", ":": "`:`", " ": "blanks"}
SEARCHED = 20  # rows that a header is looked for in
_DECLARED = re.compile(r'"?sep=(.?)"?\1*[ \r\n]*', re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """The header of a CSV text.

    Attributes:
        separator: between the fields of the table.
        names: the fields of the header, as they are written.
        lines: how many lines of the text come before it.
        offset: how many characters come before it.
    """

    separator: str
    names: list[str]
    lines: int
    offset: int


@dataclass(frozen=True)
class _Row:
    fields: list[str]
    line: int  # from 0

    @property
    def is_comment(self) -> bool:
        """Whether it begins with `#`."""
        return self.fields[0].lstrip().startswith("#")

    def wanted(self, names: Sequence[str]) -> int:
        """Return how many of the names are fields of the row."""
        return len({column_name(field) for field in self.fields} & set(names))


def column_name(text: object) -> str:
    """Return the name of a column: composed (NFC), without blanks and characters without width around it."""
    name = unicodedata.normalize("NFC", str(text))
    while name != (name := name.strip().strip(_INVISIBLE)):
        pass
    return name


def header_of(path: Path, text: str, wanted: Sequence[str]) -> Header:
    """Return the header of a CSV text: the first row that is not blank.

    Args:
        path: the file, for messages.
        text: its content, without a byte order mark.
        wanted: names of columns, which decide between separators.

    Raises:
        UserError: other lines come before the header, or the separator that is declared can be none.
    """
    declaration, start = _declared(path, text)
    rows = {s: _first_rows(path, text, start, s) for s in ([declaration] if declaration else SEPARATORS)}
    rows = {s: first for s, first in rows.items() if first}
    if not rows:
        raise UserError(f"{path} must have rows, but has none.")
    separator = max(rows, key=lambda s: (rows[s][0].wanted(wanted), len(rows[s][0].fields), -[*rows].index(s)))
    first = rows[separator][0]
    if not first.wanted(wanted):
        _check_format(path, text, first, wanted)
        _check_first(path, rows, separator, wanted)
    offset = sum(map(len, islice(io.StringIO(text, newline=""), first.line)))
    return Header(separator, first.fields, first.line, offset)


def _declared(path: Path, text: str) -> tuple[str | None, int]:
    """Return the separator that the first line declares, and how many lines come before the table; None, 0 without."""
    for number, line in enumerate(islice(io.StringIO(text, newline=""), SEARCHED), start=1):
        if not line.strip():
            continue
        if not line.lstrip('"').lower().startswith("sep="):
            break
        match = _DECLARED.fullmatch(line)
        separator = match[1] if match else ""
        if not separator.isascii() or separator.isalnum() or separator in ("", '"', "\\", "\r", "\n"):
            raise UserError(
                f"`sep=` in line {number} of {path} must declare one character between fields, such as `sep=;`, but is "
                f"`{line.strip()[:60]}`."
            )
        return separator, number
    return None, 0


def _first_rows(path: Path, text: str, start: int, separator: str) -> list[_Row]:
    """Return the first rows after `start` lines that are not blank; a row of separators only is blank."""
    lines = io.StringIO(text, newline="")
    for _ in islice(lines, start):
        pass
    reader = csv.reader(lines, delimiter=separator)
    rows: list[_Row] = []
    line = start
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.append(_Row(fields, line))
            if len(rows) == SEARCHED:
                break
            line = start + reader.line_num
    except csv.Error as error:
        if not rows:
            raise UserError(f"{path} must begin with a header, but in the row of line {line + 1}: {error}.") from error
    return rows


def _check_first(path: Path, rows: dict[str, list[_Row]], separator: str, wanted: Sequence[str]) -> None:
    """Raise a `UserError` where the first row is a comment or a title, and the header comes later."""
    for group in rows.values():
        later = next((row for row in group[1:] if row.wanted(wanted) > 1), None)
        if later is not None:
            _refuse(path, rows[separator][0], f"the header (`{_shown(later)}`) is line {later.line + 1}", later.line)
    first, *others = rows[separator]
    header = next((row for row in others if not row.is_comment), None)
    if first.is_comment and header and len(header.fields) != len(first.fields):
        _refuse(path, first, "it is a comment", header.line)
    wide = next((row for group in rows.values() for row in group[1:] if len(row.fields) > 1), None)
    if len(first.fields) == 1 and wide:
        _refuse(path, first, f"line {wide.line + 1} has {len(wide.fields)} fields", wide.line)


def _check_format(path: Path, text: str, first: _Row, wanted: Sequence[str]) -> None:
    """Raise a `UserError` where the text is JSON, or its columns have another separator."""
    if text.lstrip().startswith(('{"', "[{", "[\n")):
        raise UserError(f"a table must be a CSV or Parquet file, but {path} is JSON; save it as one of these.")
    line = ",".join(first.fields)
    for other, name in OTHER_SEPARATORS.items():
        if _Row(line.split(other), 0).wanted(wanted) > 1:
            raise UserError(
                f"columns must be separated by `,`, `;` or tabs, but those of {path} are separated by {name}; put a "
                f"line `sep={other}` before the header, or save it with one of these."
            )


def _refuse(path: Path, first: _Row, reason: str, end: int) -> None:
    lines = f"line {end}" if end == first.line + 1 else f"lines {first.line + 1} to {end}"
    raise UserError(
        f"the header must come first in {path}, but line {first.line + 1} is `{_shown(first)}`, and {reason}; remove "
        f"{lines}."
    )


def _shown(row: _Row) -> str:
    text = ", ".join(field.strip() for field in row.fields if field.strip())
    return f"{text[:60]}..." if len(text) > 60 else text
