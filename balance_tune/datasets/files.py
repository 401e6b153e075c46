"""Finding the files of a distribution, and reading its lists."""

from __future__ import annotations

import csv
from pathlib import Path

from balance_tune.errors import UserError


def by_stem(source: Path, suffix: str) -> dict[str, str]:
    """Return name without suffix -> path relative to `source`, of the files of a kind; of two, the first by path."""
    files: dict[str, str] = {}
    for path in sorted(source.rglob(f"*{suffix}")):
        if path.name.startswith("."):  # companion files of macOS are called ._NAME
            continue
        files.setdefault(path.stem, str(path.relative_to(source)))
    return files


def by_lower_case(source: Path, pattern: str) -> dict[str, str]:
    """Return path in lower case -> path, both relative to `source`, of what a glob pattern gives."""
    files: dict[str, str] = {}
    for path in sorted(source.glob(pattern)):
        relative = path.relative_to(source).as_posix()
        files.setdefault(relative.lower(), relative)
    return files


def csv_rows(path: Path, columns: int) -> list[tuple[str, list[str]]]:
    """Return the rows of a csv file without header as (where it stands, fields).

    Raises:
        UserError: it has none, or one has another number of fields.
    """
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if not row:
                continue
            if len(row) != columns:
                raise UserError(f"line {number} of {path} must have {columns} fields, but has {len(row)}.")
            rows.append((f"line {number} of {path}", [field.strip() for field in row]))
    if not rows:
        raise UserError(f"{path} must have rows, but has none.")
    return rows


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the class names that ship with the package for a dataset with many."""
    return tuple((Path(__file__).parent / "classes" / f"{dataset}.txt").read_text("utf-8").splitlines())
