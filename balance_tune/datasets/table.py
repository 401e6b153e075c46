"""A user's own data: a table of paths and labels, and a recipe that says what its columns are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from balance_tune.datasets.columns import Column, column_of
from balance_tune.datasets.csv_header import column_name
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.labels import SEPARATOR, as_number, read_labels, rows_of
from balance_tune.datasets.manifest import Skipped
from balance_tune.datasets.recipe import checked_recipe
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.datasets.tabular import Cell, Embedded, embedded_value, only_text, read_table
from balance_tune.errors import UserError

Empty = Mapping[str, Mapping[int, str]]
"""Modality -> row that lacks it -> the column whose cell is empty."""


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
        choice = checked_recipe(recipe)
        self.table = table
        self.task = choice["task"]  # type: ignore[misc, assignment]
        self.name = self.family = str(recipe["name"])  # type: ignore[misc]
        label = recipe["label"]
        self.labels = [column_name(c) for c in label] if isinstance(label, list) else [column_name(label)]
        if self.task != "regression" and len(self.labels) > 1:
            raise UserError(f"`label` must be one column for {self.task}, but got {', '.join(self.labels)}.")
        self.group = column_name(recipe["group"]) if recipe.get("group") else None
        decimal = choice["decimal"]
        self.columns: dict[str, Column] = {m: column_of(m, entry, decimal) for m, entry in recipe["modalities"].items()}
        for m, column in self.columns.items():
            if both := set(column.names) & set(self.labels):
                raise UserError(f"a modality must not hold the label, but `{m}` comes from column `{min(both)}`.")
        split = column_name(recipe["split"]) if isinstance(recipe.get("split"), str) else recipe.get("split")
        used = [*self.labels, *([self.group] if self.group else []), *([split] if isinstance(split, str) else [])]
        used += [name for column in self.columns.values() for name in column.names]
        self.rows = read_table(table, used)
        self.rows.need(used)
        self.raw = {m: dict(entry) for m, entry in recipe["modalities"].items()}  # type: ignore[misc]
        self.waveforms = tuple(m for m, column in self.columns.items() if column.is_sound)  # type: ignore[misc]
        self.modalities = {m: column.modality for m, column in self.columns.items()}  # type: ignore[misc]
        self.part_column, self.split = self._split(split)  # type: ignore[misc]
        self.separator = recipe.get("separator") or SEPARATOR
        classes = recipe.get("classes")
        labels = read_labels(
            self.rows,
            self.labels,
            self.task,
            classes=None if classes is None or self.task == "regression" else [str(name) for name in classes],
            separator=self.separator,
            decimal=decimal,
            missing=choice["missing_labels"],
        )
        self.written = {  # type: ignore[misc]
            "label": self.labels,
            "separator": self.separator,
            "decimal": decimal,
            "missing_labels": choice["missing_labels"],
            "duplicates": choice["duplicates"],
        }
        self._label, self.classes = labels.values, labels.classes  # type: ignore[misc]
        self._missing, self._duplicates = choice["missing"], choice["duplicates"]
        training = recipe.get("training") or {}
        self.recipe = {name: (value, "the table's recipe") for name, value in training.items()}  # type: ignore[misc]
        self.licence = str(recipe.get("licence", "the user's own data"))  # type: ignore[misc]
        self.source = str(recipe.get("source", table.name))  # type: ignore[misc]
        self.limits = tuple(recipe.get("limits") or ("prepared from a user's table",))  # type: ignore[misc]
        self._items, self.left_out = self._listed()  # type: ignore[misc]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the table's content out: what workers need of it is in their items."""
        return {**self.__dict__, "rows": None, "_label": None, "_items": None}

    def _split(self, split: Any) -> tuple[str | None, SplitRecipe]:
        if isinstance(split, str):
            parts = [self.rows.text(split, row).lower() for row in range(len(self.rows))]
            wrong = [row for row, part in enumerate(parts) if part not in PARTS]
            if wrong:
                raise UserError(
                    f"column `{split}` of {self.table} must hold {', '.join(PARTS)}, but holds "
                    f"`{self.rows.text(split, wrong[0])}` in {rows_of(self.rows, wrong)}."
                )
            monitor, val = 0.0 if "monitor" in parts else 0.05, 0.0 if "val" in parts else 0.1
            carve: Literal["class", "group"] = "group" if self.group else "class"
            return split, SplitRecipe("official", monitor=monitor, val=val, carve=carve)
        kind = "group" if self.group else "stratified"
        default = {"kind": kind, "train": 0.65, "monitor": 0.05, "val": 0.15, "test": 0.15}
        try:
            return None, SplitRecipe(**{**default, **(split or {})})
        except TypeError as error:
            reason = str(error).removeprefix("SplitRecipe.__init__() ")
            raise UserError(
                f"`split` must be a column, or kind, train, monitor, val, test and seed, but: {reason}."
            ) from error

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return (self.table,)

    def items(self, source: Path) -> list[Item]:
        return self._items

    def check_items(self, items: Sequence[Item]) -> None:
        sets = {item.together or item.sample for item in items}
        if len(sets) < len(PARTS) <= len(items) and self.part_column is None:
            raise UserError(
                f"rows that share a file or are the same go to one part, but the {len(items)} rows of {self.table} are "
                f"{len(sets)} such sets, fewer than there are parts ({', '.join(PARTS)}); give the rows files of their "
                "own, or say `duplicates: ignore` in the recipe, by which a file may lie in several parts."
            )

    def _listed(self) -> tuple[list[Item], tuple[Skipped, ...]]:
        """Return the samples, and the rows that are left out."""
        table = self.rows
        for source in self.columns.values():
            for name in source.names:
                cells = table.columns[name]
                for row, cell in enumerate(() if only_text(cells) else cells):
                    if not isinstance(cell, str) and (not isinstance(cell, Embedded) or not source.is_file):
                        table.text(name, row)  # which says that it is no text
        empty = {m: c.empty([table.columns[n] for n in c.names]) for m, c in self.columns.items()}
        lacking = sorted(set().union(*empty.values()))
        if self._missing == "refuse" and lacking:
            column = next(rows[lacking[0]] for rows in empty.values() if lacking[0] in rows)
            raise UserError(
                f"every row must have every modality, but `{column}` is empty in {rows_of(table, lacking)} of "
                f"{self.table}; fill it in, or say `missing: drop` or `missing: silence` in the recipe."
            )
        reasons: dict[int, str] = {}
        for row in lacking:
            lacks = [rows[row] for rows in empty.values() if row in rows]
            if self._missing == "drop" or len(lacks) == len(self.columns):
                names = " and ".join(f"`{name}`" for name in lacks)
                reasons[row] = f"{names} {'is' if len(lacks) == 1 else 'are'} empty"
        reasons |= {row: f"`{self.labels[0]}` is empty" for row, label in enumerate(self._label) if label is None}
        usable = [row for row in range(len(table)) if row not in reasons]
        if self._duplicates == "drop":
            reasons |= self._repeated(usable, empty)
            usable = [row for row in usable if row not in reasons]
        left_out = [
            Skipped(f"{table.numbers[row]:07d}", f"row {table.numbers[row]}", reasons[row]) for row in sorted(reasons)
        ]
        if not usable:
            raise UserError(
                f"{self.table} must have rows with every modality, but has none; the first is left out because "
                f"{left_out[0].reason} ({left_out[0].file})."
            )
        groups = self._groups(usable)
        parts = [self.rows.text(self.part_column, row).lower() if self.part_column else "" for row in usable]
        together = self._together(usable, parts, empty)
        entries = {m: _plain([table.columns[n] for n in c.names], empty[m]) for m, c in self.columns.items()}
        by_row = list(zip(*entries.values(), strict=True))
        files = [m for m, c in self.columns.items() if c.is_file]
        named = list(zip(*(entries[m] for m in files), strict=True))
        items = []
        for row, group, part, joined in zip(usable, groups, parts, together, strict=True):
            label = self._label[row]
            assert label is not None
            paths = tuple(v for entry in named[row] for v in entry if isinstance(v, str)) if files else ()
            absent = tuple(m for m, rows in empty.items() if row in rows) if lacking else ()
            items.append(Item(f"{table.numbers[row]:07d}", label, part, group, paths, by_row[row], absent, joined))
        return items, tuple(left_out)

    def _groups(self, usable: Sequence[int]) -> list[str]:
        if not self.group:
            return [""] * len(usable)
        groups = [self.rows.text(self.group, row) for row in usable]
        if missing := [row for row, group in zip(usable, groups, strict=True) if not group]:
            raise UserError(
                f"every row must have a group, but `{self.group}` is empty in {rows_of(self.rows, missing)} of "
                f"{self.table}."
            )
        return groups

    def _content(self, modality: str, row: int, empty: Empty) -> tuple[Any, ...]:
        """Return what makes two rows equal in a modality: () of none, paths in one form, numbers, digests."""
        column = self.columns[modality]
        if row in empty[modality]:
            return ()
        cells = [self.rows.columns[name][row] for name in column.names]
        if column.kind == "numbers":
            return tuple(_number(str(cell), column.decimal) for cell in cells)
        (cell,) = cells
        if isinstance(cell, Embedded):
            return (cell.digest,)
        if isinstance(cell, str):
            return (os.path.normpath(cell.strip()) if column.is_file else cell.strip(),)
        return (cell,)

    def _repeated(self, usable: Sequence[int], empty: Empty) -> dict[int, str]:
        """Return why a row is left out, of those with the same content of every modality as an earlier row."""
        first: dict[Any, int] = {}
        reasons = {}
        for row in usable:
            other = first.setdefault(tuple(self._content(m, row, empty) for m in self.columns), row)
            if other == row:
                continue
            if self._label[row] != self._label[other]:
                raise UserError(
                    f"rows with the same content must have one label, but row {self.rows.numbers[other]} and row "
                    f"{self.rows.numbers[row]} of {self.table} have two; fix one, or say `duplicates: group`."
                )
            reasons[row] = f"it is the same as row {self.rows.numbers[other]}"
        return reasons

    def _together(self, usable: Sequence[int], parts: Sequence[str], empty: Empty) -> list[str]:
        """Return for each row the name of the set of rows that it must share a part with; "" for a row by itself."""
        if self._duplicates == "ignore":
            return [""] * len(usable)
        parent = list(range(len(usable)))

        def root(k: int) -> int:
            while parent[k] != k:
                parent[k] = parent[parent[k]]
                k = parent[k]
            return k

        numbers = self.rows.numbers
        for what, pairs in self._shared(usable, empty):
            first: dict[Any, int] = {}
            for k, key, shown in pairs:
                j = first.setdefault(key, k)
                if j == k:
                    continue
                if self._duplicates == "refuse" or parts[j] != parts[k]:
                    must = "lie in one part" if parts[j] != parts[k] else "be listed once (`duplicates: refuse`)"
                    raise UserError(
                        f"{what} must {must}, but {shown} is in row {numbers[usable[j]]} of {self.table.name} and row "
                        f"{numbers[usable[k]]}."
                    )
                a, b = sorted((root(j), root(k)))
                parent[b] = a
        roots = [root(k) for k in range(len(usable))]
        sizes = Counter(roots)
        return [f"{numbers[usable[k]]:07d}" if sizes[k] > 1 else "" for k in roots]

    def _shared(self, usable: Sequence[int], empty: Empty) -> Iterator[tuple[str, Iterator[tuple[int, Any, str]]]]:
        """Yield what rows may share: what it is, and for rows their position, a key, and its name in a message."""
        columns = self.rows.columns
        files = [m for m, column in self.columns.items() if column.is_file]
        yield "a file", ((k, *self._file(m, row, empty)) for k, row in enumerate(usable) for m in files)
        texts = [m for m, column in self.columns.items() if column.kind == "text"]
        spoken = [map(str.strip, columns[name]) for m in texts for name in self.columns[m].names]  # type: ignore[arg-type]
        words = list(zip(*spoken, strict=True))
        count = Counter(words)
        yield (
            "a sample",
            (
                (k, tuple(self._content(m, row, empty) for m in self.columns), "one")
                for k, row in enumerate(usable if texts else ())
                if count[words[row]] > 1 and any(words[row])
            ),
        )
        cells = [column if only_text(column) else [_digest(c) for c in column] for column in columns.values()]
        rows = list(zip(*cells, strict=True))
        if len(set(rows)) < len(rows):
            yield "a row", ((k, rows[row], "one") for k, row in enumerate(usable))

    def _file(self, modality: str, row: int, empty: Empty) -> tuple[Any, str]:
        """Return the key of a row's file, its own where there is none, and how a message calls it."""
        content = self._content(modality, row, empty)
        if not content:
            return (modality, row), ""
        embedded = isinstance(self.rows.columns[self.columns[modality].names[0]][row], Embedded)
        return content, f"one of `{modality}`" if embedded else content[0]

    def where(self, item: Item, file: Path) -> str:
        for column, entries in zip(self.columns.values(), item.more, strict=True):
            if column.is_file and entries and isinstance(entries[0], str) and self.table.parent / entries[0] == file:
                return f" (row {int(item.sample)}, `{column.names[0]}`)"
        return f" (row {int(item.sample)})" if file.name == item.sample else ""

    def remarks(self, items: Sequence[Item]) -> tuple[str, ...]:
        joined = sum(bool(item.together) for item in items)
        if not joined:
            return ()
        return (f"{joined} rows share a file with another row or are the same; such rows lie in one part",)

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        samples = {}
        for (name, column), entries in zip(self.columns.items(), item.more, strict=True):
            if name in item.absent:
                continue
            opened = tuple(v if isinstance(v, str) else embedded_value(self.table, *v) for v in entries)
            try:
                samples[name] = column.sample(source, opened)
            except Unreadable as error:
                if column.is_file and isinstance(entries[0], str):
                    raise
                words = error.reason if column.kind == "numbers" else f"`{column.names[0]}`: {error.reason}"
                raise Unreadable(f"row {int(item.sample)}", words) from error
        return samples

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a file's bytes, or words."""
        return self.columns[modality].read(raw)

    def miniature(self, folder: Path) -> None:
        raise UserError("a table has no miniature: it is the user's own data.")

    def command(self) -> str:
        return f"balance-tune data prepare table --recipe RECIPE.yaml --source {self.table.name}"


def _plain(columns: Sequence[Sequence[Cell]], empty: Mapping[int, str]) -> list[tuple[Any, ...]]:
    """Return each row's cells as an item holds them: text, or where embedded content is (column, row); () if empty."""
    entries: list[tuple[Any, ...]] = list(zip(*(_entries(cells) for cells in columns), strict=True))
    for row in empty:
        entries[row] = ()
    return entries


def _entries(cells: Sequence[Cell]) -> Iterator[Any]:
    if only_text(cells):
        return map(str.strip, cells)  # type: ignore[arg-type]
    return (c.strip() if isinstance(c, str) else (c.column, c.row) if isinstance(c, Embedded) else c for c in cells)


def _digest(cell: Cell) -> Any:
    return cell.digest if isinstance(cell, Embedded) else cell


def _number(text: str, decimal: str) -> Any:
    try:
        return as_number(text, decimal)
    except ValueError:  # preparation says so
        return text
