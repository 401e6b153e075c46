"""Labels of a user's table: names, or indices, or numbers; the same for preparation and evaluation."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from balance_tune.datasets.csv_header import column_name
from balance_tune.datasets.tabular import NO_VALUE, Cell, Embedded, TextTable
from balance_tune.errors import UserError
from balance_tune.tasks import Task

SEPARATOR = "|"
"""Between the labels of a row of a multilabel task, and between the numbers of a column with several targets."""
OTHER_SEPARATORS = ("|", ";", ",")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = (2 - 2**-23) * 2.0**127  # of 32 bits, in which samples and targets are stored
MOST_ROWS = 5  # that a message names


@dataclass(frozen=True)
class Labels:
    """The labels of a table.

    Attributes:
        values: of each row the index of its class, or one number a label or target; None where the label is missing.
        classes: names of the classes, labels or targets.
        by_index: whether the table gives indices of classes instead of their names.
    """

    values: list[int | tuple[float, ...] | None]
    classes: tuple[str, ...]
    by_index: bool = False


def read_labels(
    table: TextTable,
    columns: Sequence[str],
    task: Task,
    *,
    classes: Sequence[str] | None = None,
    separator: str = SEPARATOR,
    decimal: str = ".",
    missing: str = "refuse",
) -> Labels:
    """Return the labels of a table; a row whose label is empty, `nan` or `null` has none.

    Args:
        table: the table.
        columns: the column of labels; of a regression one a target, or one for all with `separator` between numbers.
        task: what the labels are.
        classes: the names that labels may have (the targets of a regression); None: those in the table, sorted.
        separator: between the labels of a row.
        decimal: the decimal sign of numbers.
        missing: what becomes of a row without a label: `refuse` raises, `drop` gives it None, `none` (of a multilabel
            task) means that none of the labels holds.

    Raises:
        UserError: a label is missing or unknown, two differ only by case or blanks, or names and indices are mixed.
    """
    table.need(columns)
    if task == "regression":
        return _targets(table, columns, tuple(classes or columns), separator, decimal, missing)
    (column,) = columns
    class_names = None if classes is None else tuple(clean(name) for name in classes)
    rows = _labels_of(table, column, separator if task == "multilabel" else None, class_names or ())
    multilabel = task == "multilabel"
    _check_missing(table, column, [row for row, names in enumerate(rows) if not names], missing)
    if class_names is None:
        _check_alike(table, column, rows)
        if multilabel:
            _check_separator(table, column, rows, separator)
        class_names = tuple(sorted(_first_rows(rows)))
    number, by_index = _numbering(table, column, rows, class_names, separator if multilabel else None)
    values: list[int | tuple[float, ...] | None]
    if multilabel:
        every = [{number[name] for name in names} for names in rows]
        values = [tuple(float(k in numbers) for k in range(len(class_names))) for numbers in every]
        if missing == "drop":
            values = [None if not names else value for names, value in zip(rows, values, strict=True)]
    else:
        values = [number[names[0]] if names else None for names in rows]
    return Labels(values, class_names, by_index)


def clean(text: str) -> str:
    """Return a label as the names of columns are written: without blanks around it and composed (NFC)."""
    return column_name(text)


def as_number(text: str, decimal: str = ".") -> float:
    """Return the number that a text is; ValueError with words for a message where it is none, or not finite."""
    text = text.strip()
    plain = text.replace(decimal, ".") if decimal != "." else text
    if not _NUMBER.fullmatch(plain) or (decimal != "." and "." in text):
        comma = " (a decimal comma? then the recipe must say `decimal: ','`)" if decimal == "." and "," in text else ""
        raise ValueError(f"`{text[:60]}` is no number{comma}")
    value = float(plain)
    if not abs(value) <= LARGEST:  # true of what is not finite too
        raise ValueError(f"`{text[:60]}` is beyond the numbers of 32 bits (3.4e38)")
    return value


def rows_of(table: TextTable, rows: Sequence[int]) -> str:
    """Return rows for a message as the user counts them, the first of many: `row 2`, `rows 2, 7 and 30 more`."""
    numbers = [str(table.numbers[row]) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        return f"rows {', '.join(numbers)} and {len(rows) - MOST_ROWS} more"
    return f"row {numbers[0]}" if len(numbers) == 1 else f"rows {', '.join(numbers[:-1])} and {numbers[-1]}"


def _labels_of(table: TextTable, column: str, separator: str | None, classes: Sequence[str]) -> list[list[str]]:
    """Return the labels of each row, cells with the same text read once; none where the cell says that it has none."""
    special = set(classes)
    texts: dict[Cell, list[str]] = {}
    rows = []
    for row, cell in enumerate(table.columns[column]):
        names = texts.get(cell)
        if names is None:
            names = _names(table, column, row, separator)
            names = texts[cell] = [name for name in names if name.lower() not in NO_VALUE or name in special]
        rows.append(names)
    return rows


def _first_rows(rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return label -> the first row that has it."""
    first: dict[str, int] = {}
    for row, names in enumerate(rows):
        for name in names:
            if name not in first:
                first[name] = row
    return first


def _names(table: TextTable, column: str, row: int, separator: str | None) -> list[str]:
    cell: Cell | list[str] = table.columns[column][row]
    if separator is not None:
        if isinstance(cell, str):
            cell = cell.split(separator)
        elif isinstance(cell, Embedded):
            cell = [str(v) for v in cell.value()]
        return [name for part in cell if (name := clean(part))]
    return [clean(table.text(column, row))]


def _check_missing(table: TextTable, column: str, rows: Sequence[int], missing: str) -> None:
    if len(rows) == len(table) and missing != "none":
        raise UserError(f"column `{column}` of {table.path} must hold labels, but every row of it is empty.")
    if rows and missing == "refuse":
        first = table.columns[column][rows[0]]
        what = f"is `{first.strip()}`" if isinstance(first, str) and first.strip() else "is empty"
        raise UserError(
            f"every row must have a label, but `{column}` {what} in {rows_of(table, rows)} of {table.path}; fill it "
            "in, or say `missing_labels: drop` in the recipe."
        )


def _check_alike(table: TextTable, column: str, rows: Sequence[Sequence[str]]) -> None:
    """Raise a `UserError` where two labels are the same but for case, blanks or the form of a number (1, 1.0)."""
    spellings: dict[str, list[str]] = {}
    for name in _first_rows(rows):
        spellings.setdefault(_folded(name), []).append(name)
    for variants in spellings.values():
        if len(variants) > 1:
            one, other = variants[:2]
            first, second = ([row for row, names in enumerate(rows) if name in names] for name in (one, other))
            raise UserError(
                f"labels must differ by more than case, blanks or the form of a number, but column `{column}` of "
                f"{table.path} has `{one}` "
                f"({rows_of(table, first)}) and `{other}` ({rows_of(table, second)}); make them one, or list both as "
                "`classes` in the recipe."
            )


def _folded(name: str) -> str:
    """Return what labels that look the same have in common; characters that cannot be seen are left out."""
    visible = "".join(c for c in name.casefold() if not c.isspace() and unicodedata.category(c) != "Cf")
    return repr(float(visible)) if _NUMBER.fullmatch(visible) else visible


def _check_separator(table: TextTable, column: str, rows: Sequence[Sequence[str]], separator: str) -> None:
    """Raise a `UserError` where labels look as if another separator stood between them."""
    names = _first_rows(rows)
    for other in OTHER_SEPARATORS:
        split = {name: {part.strip() for part in name.split(other)} for name in names if other in name}
        for name, parts in split.items():
            others = [theirs for one, theirs in split.items() if one != name]
            if other == separator or not any(p in names or any(p in theirs for theirs in others) for p in parts):
                continue
            if other == "," and not all(part in names for part in parts):  # many a name has a comma
                continue
            raise UserError(
                f"the labels of a row must be separated by `{separator}`, but `{name}` (row "
                f"{table.numbers[names[name]]} of {table.path}) looks separated by `{other}`; say `separator: "
                f"'{other}'` in the recipe, or list the labels as `classes`."
            )


def _numbering(
    table: TextTable, column: str, rows: Sequence[Sequence[str]], classes: tuple[str, ...], separator: str | None
) -> tuple[dict[str, int], bool]:
    """Return label -> index of its class; labels of a table are all names, or all indices."""
    named = {name: k for k, name in enumerate(classes)}
    labels = _first_rows(rows)
    strange = [name for name in labels if name not in named]
    if not strange:
        return named, False
    indices = {str(k): k for k in range(len(classes))}
    where = f"row {table.numbers[labels[strange[0]]]} of {table.path}"
    if all(name in indices for name in labels):
        values = {as_whole(name) for name in classes}
        if None not in values and {int(name) for name in labels} <= values:
            raise UserError(
                f"a label must be written as its class is ({', '.join(classes[:8])}), but `{column}` is `{strange[0]}` "
                f"in {where}, which may be the class of this number or the one at this place; write the names."
            )
        return {name: indices[name] for name in labels}, True
    close = difflib.get_close_matches(strange[0].lower(), [name.lower() for name in classes], 1)
    hint = next((f" Did you mean `{name}`?" for name in classes if close and name.lower() == close[0]), "")
    for other in OTHER_SEPARATORS:
        if separator is not None and other != separator and other in strange[0]:
            hint = f" The labels of a row are separated by `{separator}`."
    shown = ", ".join(classes[:8]) + (f", ... ({len(classes)} in all)" if len(classes) > 8 else "")
    raise UserError(f"a label must be one of {shown}, but `{column}` is `{strange[0][:80]}` in {where}.{hint}")


def as_whole(text: str) -> int | None:
    """Return the whole number that a text of ASCII digits is, or None."""
    return int(text) if text.isascii() and text.isdigit() else None


def _targets(
    table: TextTable, columns: Sequence[str], targets: tuple[str, ...], separator: str, decimal: str, missing: str
) -> Labels:
    values: list[int | tuple[float, ...] | None] = []
    empty: list[int] = []
    for row in range(len(table)):
        where = f"row {table.numbers[row]} of {table.path}"
        texts = [(column, text) for column in columns for text in _target_texts(table, column, row, separator)]
        if len(columns) == len(texts) and any(text.lower() in NO_VALUE for _, text in texts):
            empty.append(row)
            values.append(None)
            continue
        if len(texts) != len(targets):
            raise UserError(
                f"`{columns[0]}` must be {len(targets)} numbers ({', '.join(targets)}) with `{separator}` between "
                f"them, but {where} has {len(texts)}."
            )
        try:
            values.append(tuple(as_number(text, decimal) for _, text in texts))
        except ValueError as error:
            wrong = next((column for column, text in texts if text in str(error)), columns[0])
            raise UserError(f"targets must be finite numbers, but `{wrong}` in {where}: {error}.") from None
    _check_missing(table, columns[0], empty, missing)
    return Labels(values, targets)


def _target_texts(table: TextTable, column: str, row: int, separator: str) -> list[str]:
    cell = table.columns[column][row]
    if isinstance(cell, Embedded):
        return [str(v) for v in cell.value()]
    return [part.strip() for part in (cell.split(separator) if isinstance(cell, str) else cell)]
