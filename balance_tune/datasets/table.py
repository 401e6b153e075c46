"""A user's own data: a table of paths and labels, and a recipe that says what its columns are."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.columns import KINDS, Column, column_of
from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.errors import UserError
from balance_tune.kinds import misfit

KINDS_OF: dict[str, Any] = {
    "name": str | int,
    "task": str,
    "label": str | int | list[str | int],
    "classes": list[str | int | float | bool],
    "split": str | dict[str, str | int | float],
    "group": str,
    "modalities": Any,
    "training": dict[str, Any],
    "licence": str,
    "source": str,
    "limits": list[str],
}
"""What a recipe may hold."""
SEPARATOR = "|"
"""Between the labels of a row of a multilabel task."""


class Table(Distribution):
    """Data described by a table and a recipe; it has no name of its own, so no study finds it but by its store.

    Args:
        recipe: the recipe as plain data (see docs/data.md).
        table: the CSV or Parquet file; paths in it are relative to its folder.

    Raises:
        UserError: the recipe or the table cannot be, in one line.
    """

    protocol = "table"
    layout = "the files that the table names"

    def __init__(self, recipe: Mapping[str, Any], table: Path) -> None:
        for key in recipe:
            if key not in KINDS_OF:
                raise UserError(f"a recipe may have {', '.join(KINDS_OF)}, but has `{key}`.")
        for key, hint in KINDS_OF.items():
            wrong = misfit(recipe[key], hint, f"`{key}`") if recipe.get(key) is not None else None
            if wrong is not None:
                raise UserError(f"a recipe must have settings of their kind, but {wrong}.")
        for key in ("name", "label", "modalities"):
            if not recipe.get(key):
                raise UserError(f"a recipe must have `{key}`, but has not.")
        if not isinstance(recipe["modalities"], Mapping):
            raise UserError(f"`modalities` must map names to columns; their kinds are {', '.join(KINDS)}.")
        self.table = table
        self.rows = _rows(table)
        self.task = recipe.get("task", "classes")  # type: ignore[misc]
        if self.task not in ("classes", "multilabel", "regression"):
            raise UserError(f"`task` must be classes, multilabel or regression, but got `{self.task}`.")
        self.name = self.family = str(recipe["name"])  # type: ignore[misc]
        label = recipe["label"]
        self.labels = [str(c) for c in label] if isinstance(label, list) else [str(label)]
        self.group = recipe.get("group")
        self.columns: dict[str, Column] = {m: column_of(m, entry) for m, entry in recipe["modalities"].items()}
        self._need([*self.labels, *([self.group] if self.group else [])])
        for column in self.columns.values():
            self._need(column.names)
        self.raw = {m: dict(entry) for m, entry in recipe["modalities"].items()}  # type: ignore[misc]
        self.waveforms = tuple(m for m, column in self.columns.items() if column.is_sound)  # type: ignore[misc]
        self.modalities = {m: column.modality for m, column in self.columns.items()}  # type: ignore[misc]
        self.part_column, self.split = self._split(recipe.get("split"))  # type: ignore[misc]
        self.classes = self._classes(recipe.get("classes"))  # type: ignore[misc]
        training = recipe.get("training") or {}
        self.recipe = {name: (value, "the table's recipe") for name, value in training.items()}  # type: ignore[misc]
        self.licence = str(recipe.get("licence", "the user's own data"))  # type: ignore[misc]
        self.source = str(recipe.get("source", table.name))  # type: ignore[misc]
        self.limits = tuple(recipe.get("limits", ("prepared from a user's table",)))  # type: ignore[misc]

    def _need(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.rows[0]:
                raise UserError(f"{self.table} must have a column `{name}`, but has {', '.join(self.rows[0])}.")

    def _split(self, given: Any) -> tuple[str | None, SplitRecipe]:
        if isinstance(given, str):
            self._need([given])
            there = {row[given] for row in self.rows}
            unknown = sorted(there - set(PARTS))
            if unknown:
                raise UserError(
                    f"column `{given}` of {self.table} must hold {', '.join(PARTS)}, but holds `{unknown[0]}`."
                )
            monitor, val = 0.0 if "monitor" in there else 0.05, 0.0 if "val" in there else 0.1
            carve: Literal["class", "group"] = "group" if self.group else "class"
            return given, SplitRecipe("official", monitor=monitor, val=val, carve=carve)
        kind = "group" if self.group else "stratified"
        default = {"kind": kind, "train": 0.65, "monitor": 0.05, "val": 0.15, "test": 0.15}
        try:
            return None, SplitRecipe(**{**default, **(given or {})})
        except TypeError as error:
            raise UserError(
                f"`split` must be a column, or kind, train, monitor, val, test and seed, but: {error}."
            ) from error

    def _classes(self, given: Any) -> tuple[str, ...]:
        if self.task == "regression":
            return tuple(self.labels)
        if len(self.labels) > 1:
            raise UserError(f"`label` must be one column for {self.task}, but got {', '.join(self.labels)}.")
        values = [row[self.labels[0]] for row in self.rows]
        if self.task == "multilabel":
            values = [name for value in values for name in value.split(SEPARATOR) if name]
        return tuple(map(str, given)) if given else tuple(sorted(set(values)))

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return (self.table,)

    def items(self, source: Path) -> list[Item]:
        made = []
        first: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(self.rows, start=2):
            where = f"row {number} of {self.table.name}"
            files = tuple(row[c.names[0]] for c in self.columns.values() if c.is_file)
            values = tuple(tuple(row[name] for name in c.names) for c in self.columns.values())
            group = row[self.group] if self.group else ""
            part = row[self.part_column] if self.part_column else ""
            for file in files:
                if first.setdefault(file, (part, where))[0] != part:
                    raise UserError(f"a file must lie in one part, but {file} is in {first[file][1]} and {where}.")
            made.append(Item(f"{number:07d}", self._label(row, where), part, group, files, values))
        return made

    def _label(self, row: Mapping[str, str], where: str) -> int | tuple[float, ...]:
        if self.task == "classes":
            return self.label_of(row[self.labels[0]], where)
        if self.task == "multilabel":
            found = {self.label_of(name, where) for name in row[self.labels[0]].split(SEPARATOR) if name}
            return tuple(float(k in found) for k in range(len(self.classes)))
        try:
            values = tuple(float(row[name]) for name in self.labels)
        except ValueError as error:
            raise UserError(f"targets must be numbers, but {where}: {error}.") from None
        if not np.isfinite(values).all():
            raise UserError(f"targets must be finite, but {where} has {values}.")
        return values

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        pairs = zip(self.columns.items(), item.more, strict=True)
        return {name: column.sample(source, tuple(values)) for (name, column), values in pairs}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a file's bytes, or words."""
        return self.columns[modality].read(raw)

    def miniature(self, folder: Path) -> None:
        raise UserError("a table has no miniature: it is the user's own data.")

    def command(self) -> str:
        return f"balance-tune data prepare table --recipe RECIPE.yaml --source {self.table.name}"


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV or Parquet file as text."""
    if not path.is_file():
        raise UserError(f"a table must be a CSV or Parquet file, but there is no {path}.")
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            listed = parquet.read_table(path).to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{path} must be a readable Parquet file, but: {reason}.") from error
        rows = [{k: "" if v is None else str(v) for k, v in row.items()} for row in listed]
    else:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [dict(row) for row in csv.DictReader(file, restkey="")]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} must be a CSV file in UTF-8, but: {error}.") from error
    if not rows:
        raise UserError(f"{path} must have rows, but has none.")
    for number, row in enumerate(rows, start=2):
        if any(value is None for value in row.values()) or "" in row:
            raise UserError(f"row {number} of {path} must have as many fields as the header, but has not.")
    return rows
