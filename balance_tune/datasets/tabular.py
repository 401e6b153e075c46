"""Reads a user's table, CSV or Parquet: every cell as text first; what the text means is decided by its reader."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from balance_tune.datasets.csv_header import column_name, header_of
from balance_tune.datasets.named_file import shortened, unusable
from balance_tune.datasets.parquet_file import is_embedded, opened, try_reading, values_of
from balance_tune.datasets.pointers import what_it_is
from balance_tune.errors import UserError

NO_VALUE = frozenset({"", "nan", "null", "<na>"})
"""Lower-case texts of a label that is missing. `NA` and `none` are not among them: classes are called so."""
NO_FILE = NO_VALUE | {"na", "n/a", "none"}
"""The same of a number or a file name, neither of which can be `NA`."""
HEADER = 1  # rows are counted as a spreadsheet shows them, from the header on


@dataclass(frozen=True)
class Embedded:
    """A cell of a Parquet table that holds a file's bytes or numbers, which are read when they are needed.

    Attributes:
        row: its position among the table's rows, from 0.
        digest: SHA-256 of the content; equal cells have equal ones.
    """

    table: Path
    column: str
    row: int
    digest: str

    def value(self) -> Any:
        """Return the bytes, or the nested lists of numbers."""
        return embedded_value(self.table, self.column, self.row)


Cell = str | tuple[str, ...] | Embedded
"""Text ("" where there is none), the texts of a list, or content that stays in the file."""


@dataclass(frozen=True)
class TextTable:
    """The rows of a table that have any content.

    Attributes:
        columns: name -> one cell a row; columns without a name are left out.
        numbers: the number of each row as the user counts (the header is row 1).
        separator: of a CSV file.
    """

    path: Path
    columns: dict[str, list[Cell]]
    numbers: list[int]
    separator: str | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def need(self, names: Sequence[str]) -> None:
        """Raise a `UserError` where a column is missing."""
        for name in names:
            if name not in self.columns:
                between = {None: "", "\t": " (separated by tabs)"}.get(
                    self.separator, f" (separated by {self.separator})"
                )
                raise UserError(f"{self.path} must have a column `{name}`, but has {', '.join(self.columns)}{between}.")

    def text(self, name: str, row: int) -> str:
        """Return a cell as text without blanks around it; of a list or embedded content it raises a `UserError`."""
        cell = self.columns[name][row]
        if isinstance(cell, str):
            return cell.strip()
        raise UserError(
            f"column `{name}` of {self.path} must hold one text or number a row, but row {self.numbers[row]} holds "
            f"{'a list' if isinstance(cell, tuple) else 'bytes or a list of numbers'}."
        )


def only_text(cells: Sequence[Cell]) -> bool:
    """Return whether every cell is one text; much quicker than asking each."""
    return set(map(type, cells)) <= {str}


def read_table(path: Path, wanted: Sequence[str] = ()) -> TextTable:
    """Return the rows of a CSV or Parquet file.

    Args:
        path: the file; Parquet is known by its content or its ending, all else is CSV in UTF-8.
        wanted: the columns that the caller needs; they decide between separators.

    Raises:
        UserError: it cannot be read, has no rows, has a column twice, or a row has too few or too many fields.
    """
    reason = unusable(path) or ("it is a folder" if path.is_dir() else None)
    if reason is not None:
        raise UserError(f"a table must be a CSV or Parquet file, but {shortened(str(path))}: {reason}.")
    try:
        with path.open("rb") as file:
            start = file.read(4096)
            parquet = path.suffix.lower() == ".parquet" or start.startswith(b"PAR1")
            if (reason := what_it_is(path.name, start)) is not None:
                raise UserError(f"a table must be a CSV or Parquet file, but {path}: {reason}.")
            content = b"" if parquet else start + file.read()
    except OSError as error:
        raise UserError(f"a table must be readable, but {path}: {error.strerror or error}.") from error
    table = _parquet(path, wanted) if parquet else _csv(path, content, wanted)
    if not len(table):
        raise UserError(f"{path} must have rows, but has none.")
    return table


def _csv(path: Path, content: bytes, wanted: Sequence[str]) -> TextTable:
    import pyarrow as pa
    from pyarrow import csv as arrow

    text = _utf8(path, content)
    header = header_of(path, text, wanted)
    names = _names(path, header.names)
    _check_quotes(path, text, header.separator)
    wrong: list[Any] = []
    blank: set[int] = set()

    def reject(row: Any) -> str:
        if row.text is not None and not row.text.strip():
            blank.add(row.number)
        else:
            wrong.append(row)
        return "skip"

    raw = content.removeprefix(b"\xef\xbb\xbf")
    body = raw[len(text[: header.offset].encode()) :]  # the first line says how many fields a row has
    fields = [f"f{k}" for k in range(len(header.names))]
    try:
        # in one thread, because only then it says which row is wrong; in one block, which any row fits into
        table = arrow.read_csv(
            io.BytesIO(body if body.endswith(b"\n") else body + b"\n"),
            read_options=arrow.ReadOptions(
                autogenerate_column_names=True, use_threads=False, block_size=min(len(body) + 2, 2**31 - 1)
            ),
            parse_options=arrow.ParseOptions(
                delimiter=header.separator,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=reject,
            ),
            convert_options=arrow.ConvertOptions(
                column_types={f: pa.string() for f in fields}, strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise UserError(f"{path} must be a CSV file, but: {(str(error).splitlines() or [''])[0]}.") from error
    if wrong:
        raise UserError(
            f"row {wrong[0].number + header.lines} of {path} must have as many fields as the header "
            f"({wrong[0].expected_columns}), but has {wrong[0].actual_columns}."
        )
    cells = [table[f].to_pylist() for f in fields]
    numbers = [header.lines + n for n in range(HEADER, len(cells[0]) + len(blank) + HEADER) if n not in blank]
    filled = [k for k in range(1, len(cells[0])) if any(column[k].strip() for column in cells)]
    again = next((k for k in filled if all(column[k] == column[0] for column in cells)), None)
    if again is not None:
        raise UserError(f"the header must be in {path} once, but row {numbers[again]} is it again; remove that row.")
    columns: dict[str, list[Cell]] = {
        name: [column[k] for k in filled] for name, column in zip(names, cells, strict=True) if name is not None
    }
    return TextTable(path, columns, [numbers[k] for k in filled], header.separator)


def _utf8(path: Path, content: bytes) -> str:
    start = content[:4096]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or 10 * start.count(b"\0") > len(start):
        raise UserError(f"{path} must be a CSV file in UTF-8, but is UTF-16 or no text; save it as UTF-8.")
    if (place := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise UserError(f"{path} must be a CSV file in UTF-8, but line {line} holds the character NUL; remove it.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} must be a CSV file in UTF-8, but line {line} is not (byte 0x{content[error.start]:02x}); save it "
            "as UTF-8."
        ) from error


def _check_quotes(path: Path, text: str, separator: str) -> None:
    """Raise a `UserError` where a quote is not closed, or not before a separator: it would swallow rows silently."""
    if '"' not in text:
        return
    limit = csv.field_size_limit(len(text) + 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        for _ in rows:
            number = rows.line_num
    except csv.Error:
        raise UserError(
            f"quotes must be closed, and before the next separator or line, but in {path} those in the row that begins "
            f"in line {number + 1} are not; write quotes inside of quotes twice."
        ) from None
    finally:
        csv.field_size_limit(limit)


def _names(path: Path, header: Sequence[str]) -> list[str | None]:
    """Return the names of a header without blanks around them; None of a column that has none."""
    names = [column_name(name) or None for name in header]
    for k, name in enumerate(names):
        if name is not None and name in names[:k]:
            raise UserError(
                f"a column must be in a table once, but {path} has `{name}` twice (columns {names.index(name) + 1} and "
                f"{k + 1})."
            )
    return names


def _parquet(path: Path, wanted: Sequence[str]) -> TextTable:
    import pyarrow as pa

    columns: dict[str, list[Cell]] = {}
    try_reading(path)
    try:
        file, schema = opened(path)
        names = _names(path, schema.names)
        for name, field in zip(names, schema, strict=True):
            if name is None or name.startswith("__index_level_"):
                continue
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if is_embedded(kind):
                columns[name] = _embedded(path, file, field.name)
            elif pa.types.is_struct(kind) or pa.types.is_map(kind):
                if name in wanted:
                    raise UserError(
                        f"column `{name}` of {path} must hold text, numbers or files, but holds {kind}; a file is "
                        "{bytes, path}."
                    )
            else:
                columns[name] = _texts(file.read(columns=[field.name]).column(0))
        rows = file.metadata.num_rows
        if any(len(cells) != rows for cells in columns.values()):
            raise OSError(f"it says that it has {rows} rows, and has others")
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} must be a readable Parquet file, but: {reason}.") from error
    return TextTable(path, columns, [k + HEADER + 1 for k in range(rows)])


def _texts(column: Any) -> list[Cell]:
    """Return a column's values as text; whole numbers that a missing value has made floats are whole again."""
    values = values_of(column)
    numbers = [v for v in values if isinstance(v, float) and v == v]
    whole = bool(numbers) and all(v.is_integer() and abs(v) < 2**53 for v in numbers)
    texts: list[Cell] = []
    for value in values:
        if value is None or value != value:
            texts.append("")
        elif isinstance(value, str | tuple):
            texts.append(value)
        else:
            texts.append(str(int(value) if whole else value))
    return texts


def _embedded(path: Path, file: Any, name: str) -> list[Cell]:
    """Return a cell for every file or list of numbers in a column, reading one row group at a time."""
    cells: list[Cell] = []
    for group in range(file.num_row_groups):
        for scalar in file.read_row_group(group, columns=[name]).column(0):
            value = content = scalar.as_py()
            if isinstance(value, dict):
                content = value["bytes"]
                if content is None:
                    cells.append(value["path"] or "")
                    continue
            if not content:
                cells.append("")
                continue
            digest = hashlib.sha256(content if isinstance(content, bytes) else repr(content).encode()).hexdigest()
            cells.append(Embedded(path, name, len(cells), digest))
    return cells


def embedded_value(path: Path, column: str, row: int) -> Any:
    """Return the bytes, or the lists of numbers, in a cell of a Parquet table; `row` counts from 0.

    Raises:
        UserError: the table cannot be read there.
    """
    import pyarrow as pa

    try:
        version = path.stat().st_mtime_ns  # a table that was written again is read again
        starts = _row_groups(path, version)
        group = max(k for k, start in enumerate(starts) if start <= row)
        value = _group(path, version, column, group)[row - starts[group]].as_py()
    except (OSError, IndexError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{path} must be a readable Parquet file, but in row {row + HEADER + 1} of `{column}`: {reason}."
        ) from error
    return value["bytes"] if isinstance(value, dict) else value


@lru_cache(maxsize=4)
def _row_groups(path: Path, version: int) -> list[int]:
    """Return the first row of each row group that has rows."""
    metadata = opened(path)[0].metadata
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    return [sum(sizes[:k]) for k in range(len(sizes))]


@lru_cache(maxsize=4)
def _group(path: Path, version: int, column: str, group: int) -> Any:
    return opened(path)[0].read_row_group(group, columns=[column]).column(0)
