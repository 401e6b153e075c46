"""What a dataset is: its modalities, its classes, its training recipe, its split, and how its source is read."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError


@dataclass(frozen=True)
class Modality:
    """One modality: `shape` of one sample, and the encoder it gets by default (registered name, keyword arguments).

    `standardise` lists the axes of a sample whose every position has its own mean and standard deviation; they are
    pooled over the other axes. (0,) is one per feature of a vector and one per channel of an image or a series; (0, 1)
    is one per frequency of a spectrogram (channels, frequencies, frames).
    """

    shape: tuple[int, ...]
    encoder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    standardise: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.shape or any(not isinstance(n, int) or n < 1 for n in self.shape):
            raise UserError(f"a modality's shape must be positive whole numbers, but got (shape={self.shape}).")
        if not self.encoder:
            raise UserError(f"a modality must name its encoder, but got (encoder={self.encoder!r}).")
        try:
            json.dumps(dict(self.settings))
        except TypeError as error:
            raise UserError(f"an encoder's settings must be plain JSON, but: {error}.") from error
        if any(axis not in range(len(self.shape)) for axis in self.standardise):
            raise UserError(
                f"`standardise` must name axes of the shape, but got (standardise={self.standardise}, "
                f"shape={self.shape})."
            )


@dataclass(frozen=True)
class Samples:
    """A whole dataset in memory, in the order of its source.

    Attributes:
        inputs: modality -> (N, *shape), made float32; finite.
        labels: (N,), made int64; the class of each sample.
        groups: (N,), made int64; who or what a sample is of (speaker, subject, video), or None.
        parts: (N,), made int8; the official part of each sample as an index into `PARTS`, or None.

    Raises:
        UserError: arrays of unequal length, of the wrong kind, empty, or with values that are not finite.
    """

    inputs: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None
    parts: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if rows == 0 or not self.inputs:
            raise UserError(f"a dataset needs samples and modalities, but got {rows} and {len(self.inputs)}.")
        object.__setattr__(self, "labels", _whole("labels", self.labels, rows, np.int64))
        for name in ("groups", "parts"):
            if getattr(self, name) is not None:
                kind = np.int64 if name == "groups" else np.int8
                object.__setattr__(self, name, _whole(name, getattr(self, name), rows, kind))
        object.__setattr__(self, "inputs", {name: _finite(name, x, rows) for name, x in self.inputs.items()})

    def __len__(self) -> int:
        return len(self.labels)


def _whole(name: str, values: Any, rows: int, kind: type[np.signedinteger[Any]]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise UserError(
            f"`{name}` must be {rows} whole numbers, one a sample, but got shape {array.shape} of {array.dtype}."
        )
    return array.astype(kind, copy=False)


def _finite(name: str, values: Any, rows: int) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise UserError(f"modality `{name}` must be an array of numbers, but got {array.dtype} of shape {array.shape}.")
    if len(array.shape) < 2 or array.shape[0] != rows:
        raise UserError(
            f"modality `{name}` must have shape (samples, *shape) with {rows} samples, but got {array.shape}."
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and is told below
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(array).reshape(rows, -1).all(axis=1))
    if len(bad):
        raise UserError(
            f"modality `{name}` must be finite, but {len(bad)} of {rows} samples are not; the first is row {bad[0]}."
        )
    return array


class Dataset(ABC):
    """A source of samples; a subclass with its own `name` is found by every study.

    Raise `version` whenever `read` comes to return something else: stores are kept by it.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    classes: ClassVar[tuple[str, ...]]
    modalities: ClassVar[dict[str, Modality]]
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {}
    """How it is trained by default: a setting of `TrainingSettings` -> (value, where the value is from)."""
    split: ClassVar[SplitRecipe]
    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""
    limits: ClassVar[tuple[str, ...]] = ()
    """What a reader of the results must know about the data, in words."""

    @abstractmethod
    def read(self) -> Samples:
        """Return every sample, unstandardised, in an order that never changes."""

    def decode(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Return one sample of `modality` as `read` gives it (declared shape, unstandardised), from what a user has.

        Served models and `evaluate` send their inputs through here. Numbers of the declared shape are taken by every
        dataset; one whose source holds files overrides this to take their bytes too, and prepares them as `read` does.

        Raises:
            UserError: `raw` cannot become such a sample.
        """
        if isinstance(raw, bytes | bytearray | str):
            raise UserError(
                f"`{modality}` must be numbers, because dataset `{self.name}` decodes no files, but got a "
                f"{type(raw).__name__} of length {len(raw)}."
            )
        return self.shaped(modality, raw)

    def shaped(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Return numbers (an array, or nested lists) as float32 if they are finite and have the modality's shape."""
        shape = self.modalities[modality].shape
        try:
            array = np.asarray(raw, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"`{modality}` must be numbers of shape {shape}, but: {error}.") from error
        if array.shape != shape:
            raise UserError(f"a sample of `{modality}` must have shape {shape}, but got {array.shape}.")
        if not np.isfinite(array).all():
            raise UserError(f"a sample of `{modality}` must be finite, but has values that are not.")
        return array

    def files(self) -> tuple[Path, ...]:
        """Return the source files that `read` reads, in order; a change in one of them makes another store."""
        return ()

    def check(self) -> None:
        """Raise a `UserError` when the class declares something that cannot be."""
        for attribute in ("name", "classes", "modalities", "split"):
            if not hasattr(self, attribute):
                raise UserError(f"dataset class {type(self).__qualname__} must declare `{attribute}`, but does not.")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UserError(f"a dataset's name must be lower-case letters, digits and _, but got `{self.name}`.")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise UserError(
                f"dataset `{self.name}` must have two or more classes, all different, but got {self.classes}."
            )
        if not self.modalities:
            raise UserError(f"dataset `{self.name}` must have a modality, but got none.")
        for name in self.modalities:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
                raise UserError(
                    f"a modality's name must be lower-case letters, digits and _ and none of {', '.join(RESERVED)}, "
                    f"but got `{name}` in dataset `{self.name}`."
                )
        for setting, entry in self.recipe.items():
            if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[1], str):
                raise UserError(
                    f"a training recipe must map a setting to (value, source), but got `{setting}`: {entry!r} in "
                    f"dataset `{self.name}`."
                )

    def check_samples(self, samples: Samples) -> None:
        """Raise a `UserError` when `samples` are not what the class declares."""
        if list(samples.inputs) != list(self.modalities):
            raise UserError(
                f"dataset `{self.name}` must read the modalities it declares, in their order: "
                f"{', '.join(self.modalities)}; but got {', '.join(samples.inputs)}."
            )
        for name, modality in self.modalities.items():
            if samples.inputs[name].shape[1:] != modality.shape:
                raise UserError(
                    f"modality `{name}` of dataset `{self.name}` must have shape {modality.shape}, but got "
                    f"{samples.inputs[name].shape[1:]}."
                )
        low, high = int(samples.labels.min()), int(samples.labels.max())
        if low < 0 or high >= len(self.classes):
            raise UserError(
                f"labels of dataset `{self.name}` must lie from 0 to {len(self.classes) - 1} (its classes), but got "
                f"{low} to {high}."
            )


RESERVED = ("label", "row", "group")
"""Columns of a store beside the modalities."""
