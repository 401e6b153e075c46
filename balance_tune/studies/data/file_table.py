"""A table of labelled samples, CSV or Parquet: a column `label`, and one a modality with files or values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balance_tune.datasets.columns import columns_of
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.files import content_of
from balance_tune.datasets.labels import SEPARATOR, as_number, read_labels
from balance_tune.datasets.named_file import shortened
from balance_tune.datasets.tabular import NO_FILE, Embedded, read_table
from balance_tune.errors import UserError
from balance_tune.studies.wording import one_line
from balance_tune.tasks import Task

LABEL = "label"
EARLIER_SEPARATOR = ";"
"""What tables for `evaluate` had between labels before recipes declared it; understood where no label contains it."""


class FileTable:
    """Rows of samples: of each modality a file's bytes, an array, words or numbers, or None where it is missing.

    A cell names a file, relative to the table (`.npy`: an array); an empty one is a missing modality. Of the modalities
    that are `words` it holds these. In Parquet a cell may also hold a file's bytes, a {bytes, path}, or a list of
    numbers. A label is a class's name, or for the whole table its index; of a multilabel task the names with a
    separator between them, and of a regression the numbers (in Parquet also a list).

    Args:
        path: the table.
        modalities: of the model.
        classes: names of its classes, labels or targets.
        task: its task.
        words: its modalities that are text.
        raw: of a model of a user's own table: what each modality is made from, as the recipe says; such columns are
            found by their names in the recipe too.
        written: of such a model how labels and numbers are written (`label`, `separator`, `decimal`).

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
        raw: Mapping[str, Any] | None = None,
        notation: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self._words = path, words
        notation, raw = notation or {}, raw or {}
        own = {m: columns_of(raw.get(m)) for m in modalities}
        label_columns = [str(name) for name in notation.get("label", ())]
        inputs = [name for names in own.values() for name in names]
        self.table = read_table(path, [LABEL, *modalities, *label_columns, *inputs])
        columns = self.table.columns
        has_own = LABEL not in columns and label_columns and all(name in columns for name in label_columns)
        labels = label_columns if has_own else [LABEL]
        self.table.need(labels)
        self._columns = {}
        for m in modalities:
            names = (m,) if m in columns else own[m]
            if names and all(name in columns and name not in labels for name in names):
                self._columns[m] = names
        if not self._columns:
            raise UserError(
                f"{path} must have a column of a modality ({', '.join(modalities)}), but has {', '.join(columns)}."
            )
        self._numbers = [m for m in self._columns if raw.get(m, {}).get("kind") == "numbers"]
        self._decimal = notation.get("decimal", ".")
        column = read_labels(
            self.table,
            labels,
            task,
            classes=classes,
            separator=notation.get("separator") or self._separator(labels[0], classes),
            decimal=self._decimal,
            missing=notation.get("missing_labels") or ("none" if task == "multilabel" else "refuse"),
        )
        with_label = [row for row, value in enumerate(column.values) if value is not None]
        self._rows = with_label
        self.numbers = [self.table.numbers[row] for row in with_label]
        self.by_index = column.by_index
        self.labels: list[Any] = [_plain(column.values[row]) for row in with_label]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> tuple[dict[str, list[Any]], list[Any]]:
        """Return the samples of some rows as modality -> values, None where one is missing, and their labels."""
        values = {
            m: [self._value(m, names, row) for row in self._rows[start:stop]] for m, names in self._columns.items()
        }
        return values, self.labels[start:stop]

    def _value(self, modality: str, names: tuple[str, ...], row: int) -> Any:
        cells = [self.table.columns[name][row] for name in names]
        where = f"row {self.table.numbers[row]} of {self.path}"
        if isinstance(cells[0], Embedded):
            return cells[0].value()
        texts = [self.table.text(name, row) for name in names]
        if modality in self._words:
            return cells[0] if texts[0] else None
        if any(text.lower() in NO_FILE for text in texts):
            return None
        if modality in self._numbers:
            try:
                return [as_number(text, self._decimal) for text in texts]
            except ValueError as error:
                raise UserError(f"`{modality}` must be numbers, but in {where}: {error}.") from None
        path = self.path.parent / texts[0]
        try:
            return content_of(path)
        except Unreadable as error:
            file = shortened(str(path))
            raise UserError(
                one_line(f"a file that `{names[0]}` names must be readable, but in {where} {file}: {error.reason}")
            ) from error

    def _separator(self, label: str, classes: Sequence[str]) -> str:
        texts = [cell for cell in self.table.columns[label] if isinstance(cell, str)]
        earlier = any(EARLIER_SEPARATOR in text for text in texts) and not any(SEPARATOR in text for text in texts)
        return EARLIER_SEPARATOR if earlier and not any(EARLIER_SEPARATOR in name for name in classes) else SEPARATOR


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
