"""The plan of a store: which rows go into which part and shard, checked before anything is written."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.manifest import Identity, identity_of
from balance_tune.datasets.named_file import shortened, size_of, unusable
from balance_tune.datasets.splits import PARTS
from balance_tune.errors import UserError

SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Chunk:
    """The samples of one shard: its file, its part, and the rows with the items they are read from."""

    file: str
    part: str
    rows: tuple[int, ...]
    items: tuple[Item, ...]
    groups: tuple[int, ...] | None

    @property
    def outcome(self) -> str:
        """The name of the file that says how the chunk came out."""
        return f"{self.file}.json"


@dataclass(frozen=True)
class Plan:
    """All that a preparation will do, known before a sample is read."""

    dataset: Distribution
    source: Path
    identity: Identity
    items: tuple[Item, ...]
    assignment: NDArray[np.int8]
    groups: NDArray[np.int64] | None
    chunks: tuple[Chunk, ...]


def plan_of(dataset: Distribution, source: Path, shard_bytes: int = SHARD_BYTES) -> Plan:
    """Return what preparing `dataset` from `source` comes to; reads annotations and the sizes of all files.

    Args:
        dataset: which distribution it is.
        source: its folder, or a table.
        shard_bytes: size of a shard of the store.

    Raises:
        UserError: the source is not what the dataset expects, names a sample twice, or cannot be split.
    """
    if not source.is_dir():
        raise UserError(f"the source of `{dataset.name}` must be a folder with {dataset.layout}, but got {source}.")
    try:
        items = dataset.items(source)
    except UserError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # unreadable, or text that is none
        reason = str(error).partition("\n")[0]
        raise UserError(f"the lists of `{dataset.name}` in {source} must be readable, but: {reason}.") from error
    _check(dataset, source, items)
    if dataset.task == "classes":
        labels: NDArray[Any] = np.array([item.label for item in items], dtype=np.int64)
    else:
        labels = np.array([item.label for item in items], dtype=np.float32)
    dataset.check_labels(labels)
    groups = _numbered([item.group for item in items])
    official = None
    if all(item.part for item in items):
        official = np.array([PARTS.index(item.part) for item in items], dtype=np.int8)
    together = _numbered([item.together or f"-{row}" for row, item in enumerate(items)])
    if not any(item.together for item in items):
        together = None
    assignment = dataset.split.assign(labels, groups, official, together, dataset.classes)
    listing = _listing_hash(source, items)
    annotations = dataset.annotations(source)
    identity = identity_of(dataset, listing, annotations)
    each = sum(modality.nbytes for modality in dataset.modalities.values())
    chunks = _chunks(items, assignment, groups, max(1, shard_bytes // each))
    return Plan(dataset, source, identity, tuple(items), assignment, groups, chunks)


def _check(dataset: Distribution, source: Path, items: Sequence[Item]) -> None:
    if not items:
        raise UserError(f"the source of `{dataset.name}` must list samples, but {source} lists none.")
    parts: dict[str, str] = {}
    for item in items:
        if item.sample in parts:
            where = (
                f"twice in {item.part}"
                if parts[item.sample] == item.part
                else f"in {parts[item.sample]} and {item.part}"
            )
            where = where if item.part else "twice"
            raise UserError(f"a sample of `{dataset.name}` must be listed once, but `{item.sample}` is {where}.")
        parts[item.sample] = item.part
    files = {file for item in items for file in item.files}
    if files and all(unusable(source / file) for file in files):
        item = next(item for item in items if item.files)
        first = item.files[0]
        raise UserError(
            f"the source of `{dataset.name}` must hold {dataset.layout}, but not one of the {len(files)} files it "
            f"lists is in {source}; the first is {shortened(first)}{dataset.where(item, source / first)}: "
            f"{unusable(source / first)}."
        )
    dataset.check_items(items)


def _numbered(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Return a number for each name, equal for equal names; None where all are empty."""
    if not any(names):
        return None
    number = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], dtype=np.int64)


def _listing_hash(source: Path, items: Sequence[Item]) -> str:
    """Return a SHA-256 over every sample and the sizes of its files."""
    sizes: dict[str, int] = {}
    digest = hashlib.sha256()
    for item in items:
        for file in item.files:
            if file not in sizes:
                sizes[file] = size_of(source / file)
        entry = dict(vars(item))
        for later in ("absent", "together"):  # what items had before there were these keeps its hash
            if not entry[later]:
                del entry[later]
        digest.update(json.dumps([entry, [sizes[file] for file in item.files]]).encode() + b"\n")
    return digest.hexdigest()


def _chunks(
    items: Sequence[Item], assignment: NDArray[np.int8], groups: NDArray[np.int64] | None, size: int
) -> tuple[Chunk, ...]:
    chunks = []
    for index, part in enumerate(PARTS):
        rows = np.flatnonzero(assignment == index).tolist()
        for number, start in enumerate(range(0, len(rows), size)):
            share = rows[start : start + size]
            of = None if groups is None else tuple(groups[share].tolist())
            chunks.append(Chunk(f"{part}-{number:05d}.arrow", part, tuple(share), tuple(items[r] for r in share), of))
    return tuple(chunks)
