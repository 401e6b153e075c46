"""The manifest of a store: what was built, from what, how it was split and scaled, and the hashes that prove it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balance_tune.datasets.base import Dataset, Task
from balance_tune.datasets.modality import Modality, Statistics
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.errors import UserError
from balance_tune.kinds import misfit

FORMAT = 2
"""Raised when stores of an older layout can no longer be opened."""


@dataclass(frozen=True)
class Shard:
    """One Arrow file: its name in the folder, rows, size in bytes, and SHA-256."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """One file a store was built from: its name, size in bytes, and SHA-256."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Skipped:
    """One sample that could not be read: its name, the file, and why."""

    sample: str
    file: str
    reason: str


@dataclass(frozen=True)
class Identity:
    """What makes two stores the same: all that a dataset declares about its samples, and its source files.

    `listing` is the SHA-256 of the list of samples with the sizes of their files, where they are too many to be hashed
    one by one; `sources` are then the annotations alone.
    """

    dataset: str
    version: int
    task: Task
    classes: tuple[str, ...]
    modalities: dict[str, Modality]
    split: SplitRecipe
    sources: tuple[Source, ...]
    listing: str = ""
    format: int = FORMAT

    @property
    def hash(self) -> str:
        """12 hexadecimal digits."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Manifest:
    """All that is known of a store without opening its shards.

    Attributes:
        counts: part -> class -> rows (of a multilabel task: rows with that label; of a regression: all rows).
        groups: part -> groups that have rows in it; empty where the data names no groups.
        statistics: of the training rows, in real values; none of token ids.
        ranges: part -> modality -> lowest and highest stored value.
        shards: part -> its files, in order.
        split_hash: of the split recipe and every row's part.
        data_hash: SHA-256 over the shards' own; two stores with the same one hold the same bytes.
        recipe: how it is trained by default: setting -> (value, source).
        skipped: the samples that could not be read; they have no row.
        raw: of a user's table what each modality is made from, as its recipe says.
        table: of a user's table how its labels and numbers are written (`label`: columns, `separator`, `decimal`), and
            what its recipe says of `missing_labels` and `duplicates`.
        absent: part -> modality -> rows that do not have it, where there are any.
    """

    identity: Identity
    counts: dict[str, dict[str, int]]
    groups: dict[str, list[int]]
    statistics: dict[str, Statistics]
    ranges: dict[str, dict[str, tuple[float, float]]]
    shards: dict[str, tuple[Shard, ...]]
    split_hash: str
    data_hash: str
    licence: str
    source: str
    limits: tuple[str, ...]
    recipe: dict[str, tuple[Any, str]]
    skipped: tuple[Skipped, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.identity.dataset

    @property
    def version(self) -> int:
        """The version of the dataset's reader."""
        return self.identity.version

    @property
    def task(self) -> Task:
        """The kind of labels."""
        return self.identity.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of classes, labels or targets."""
        return self.identity.classes

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality -> what the store holds of it."""
        return self.identity.modalities

    @property
    def split(self) -> SplitRecipe:
        """How rows were divided into parts."""
        return self.identity.split

    def rows(self, part: str) -> int:
        """Return the number of rows of a part."""
        return sum(shard.rows for shard in self.shards[part])

    def to_json(self) -> str:
        """Return the manifest as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return the manifest `to_json` wrote.

        Raises:
            UserError: the text is not a manifest, is of another format, or contradicts itself.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw["identity"]["format"] != FORMAT:
                raise UserError(f"its format is {raw['identity']['format']}, but this version reads {FORMAT}")
            manifest = cls(**{**raw, **_typed(raw)})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"its manifest cannot be read ({type(error).__name__}: {error})") from error
        for name in [manifest.dataset, *(shard.file for shards in manifest.shards.values() for shard in shards)]:
            if not _plain(name):  # a copy of the store is written to a path of these names
                raise UserError(f"its manifest must name files of its own folder alone, but names {name!r:.80}")
        wrong = misfit(manifest, cls)
        if wrong is not None:
            raise UserError(f"its manifest must be what a preparation writes, but {wrong}")
        if set(manifest.shards) != set(PARTS) or manifest.data_hash != data_hash(manifest.shards):
            raise UserError("its manifest contradicts itself (its data hash is not that of its shards)")
        return manifest


def _plain(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and "\0" not in name and name not in ("", "..")


def _typed(raw: dict[str, Any]) -> dict[str, Any]:
    identity = raw["identity"]
    modalities = {name: Modality.of(entry) for name, entry in identity["modalities"].items()}
    return {
        "identity": Identity(
            **{
                **identity,
                "classes": tuple(identity["classes"]),
                "modalities": modalities,
                "split": SplitRecipe(**identity["split"]),
                "sources": tuple(Source(**entry) for entry in identity["sources"]),
            }
        ),
        "statistics": {name: Statistics(**entry) for name, entry in raw["statistics"].items()},
        "ranges": {
            part: {name: (low, high) for name, (low, high) in entry.items()} for part, entry in raw["ranges"].items()
        },
        "shards": {part: tuple(Shard(**entry) for entry in shards) for part, shards in raw["shards"].items()},
        "limits": tuple(raw["limits"]),
        "recipe": {name: (value, source) for name, (value, source) in raw["recipe"].items()},
        "skipped": tuple(Skipped(**entry) for entry in raw["skipped"]),
    }


def data_hash(shards: Mapping[str, tuple[Shard, ...]]) -> str:
    """Return the SHA-256 over the shards' SHA-256, in the order of the parts."""
    return hashlib.sha256("".join(shard.sha256 for part in shards.values() for shard in part).encode()).hexdigest()


def identity_of(dataset: Dataset, listing: str = "", annotations: Sequence[Path] = ()) -> Identity:
    """Return what a store of `dataset` would be; reads its source files (or annotations) once, for their hashes.

    Raises:
        UserError: the class declares something that cannot be, or a source file is missing.
    """
    dataset.check()
    sources = []
    for path in annotations or dataset.files():
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            sources.append(Source(path.name, path.stat().st_size, digest))
        except OSError as error:
            raise UserError(f"dataset `{dataset.name}` needs its source file {path}, but: {error.strerror}.") from error
    return Identity(
        dataset=dataset.name,
        version=dataset.version,
        task=dataset.task,
        classes=tuple(dataset.classes),
        modalities=dict(dataset.modalities),
        split=dataset.split,
        sources=tuple(sources),
        listing=listing,
    )
