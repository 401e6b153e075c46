"""A table of labelled samples, CSV or Parquet: a column `label`, and one a modality with files or values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balance_tune.datasets import limits
from balance_tune.datasets.arrays import load_array
from balance_tune.errors import UserError
from balance_tune.studies.wording import did_you_mean, one_line, shown
from balance_tune.tasks import Task

LABEL = "label"


class FileTable:
    """Rows of samples. A cell names a file, relative to the table (`.npy`: an array), or is empty: missing. Of the
    modalities that are `words` it holds these.

    In Parquet a cell may also hold a file's bytes, or a list of numbers. A label is a class's name, or its index; of a
    multilabel task the names, and of a regression the numbers, with `;` between them (in Parquet also a list).

    Raises:
        UserError: the table cannot be read, has no column `label` or none of a modality, or a label is no class.
    """

    def __init__(
        self,
        path: Path,
        modalities: Sequence[str],
        classes: Sequence[str],
        task: Task = "classes",
        words: Sequence[str] = (),
    ) -> None:
        self.path, self._words = path, words
        columns = _columns(path)
        if LABEL not in columns:
            raise UserError(f"{path} must have a column `{LABEL}`, but has {', '.join(columns)}.")
        self._values = {m: columns[m] for m in modalities if m in columns}
        if not self._values:
            raise UserError(
                f"{path} must have a column of a modality ({', '.join(modalities)}), but has {', '.join(columns)}."
            )
        read = {"classes": self._class, "multilabel": self._several, "regression": self._numbers}[task]
        self.labels: list[Any] = [read(value, row, classes) for row, value in enumerate(columns[LABEL])]
        if not self.labels:
            raise UserError(f"{path} must have rows, but has none.")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> tuple[dict[str, list[Any]], list[Any]]:
        """Return the samples of some rows as modality -> values, None where one is missing, and their labels."""
        values = {m: [self._value(m, v) for v in column[start:stop]] for m, column in self._values.items()}
        return values, self.labels[start:stop]

    def _value(self, modality: str, cell: Any) -> Any:
        if not cell if isinstance(cell, str) else cell is None:
            return None
        if not isinstance(cell, str) or modality in self._words:
            return cell
        path = self.path.parent / cell
        try:
            if path.suffix == ".npy":
                return load_array(path)
            if reason := limits.too_large_file(path):
                raise ValueError(reason)
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(one_line(f"a file that {self.path} names must be readable, but {path}: {error}")) from error

    def _class(self, value: Any, row: int, classes: Sequence[str]) -> int:
        text = str(value)
        if text in classes:
            return list(classes).index(text)
        if text.isdecimal() and int(text) < len(classes):
            return int(text)
        hint = did_you_mean(text, classes)
        raise UserError(f"a label must be a class of the model, but row {row} of {self.path} has {shown(text)}.{hint}")

    def _several(self, value: Any, row: int, classes: Sequence[str]) -> list[float]:
        named = {self._class(name, row, classes) for name in _parts(value)}
        return [float(i in named) for i in range(len(classes))]

    def _numbers(self, value: Any, row: int, targets: Sequence[str]) -> list[float]:
        try:
            numbers = [float(part) for part in _parts(value)]
        except ValueError:
            numbers = []
        if len(numbers) != len(targets):
            raise UserError(
                f"a label must be {len(targets)} numbers ({', '.join(targets)}), but row {row} of {self.path} has "
                f"{shown(value)}."
            )
        return numbers


def _parts(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(";") if part.strip()]
    return list(value) if isinstance(value, list) else [value]


def _columns(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            table = parquet.read_table(path)
        else:
            first = path.open(encoding="utf-8").readline().strip()
            kept = csv.ConvertOptions(column_types={name.strip('"'): pa.string() for name in first.split(",")})
            table = csv.read_csv(path, convert_options=kept)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(one_line(f"a table must be readable CSV or Parquet, but {path}: {error}")) from error
    twice = next((name for name in table.column_names if table.column_names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"a column must be in a table once, but {path} has {shown(twice)} twice.")
    return {name: table[name].to_pylist() for name in table.column_names}
