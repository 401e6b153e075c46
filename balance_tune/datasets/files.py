"""Finding the files of a distribution, reading its lists, and opening what a user names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from balance_tune.datasets import limits
from balance_tune.datasets.arrays import load_array
from balance_tune.datasets.media_file import unreadable
from balance_tune.datasets.named_file import unusable
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


def content_of(path: Path) -> Any:
    """Return what a user's file holds: the array of a .npy file, else its bytes; a folder (of frames) stays a path.

    Raises:
        Unreadable: it cannot be opened, or is beyond a limit.
    """
    try:
        if reason := unusable(path):
            raise ValueError(reason)
        if path.is_dir():
            return path
        if path.suffix.lower() == ".npy":
            return load_array(path)
        if reason := limits.too_large_file(path):
            raise ValueError(reason)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(path, getattr(error, "strerror", None) or str(error)) from error


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the class names that ship with the package for a dataset with many."""
    return tuple((Path(__file__).parent / "classes" / f"{dataset}.txt").read_text("utf-8").splitlines())
