"""What a dataset is: its modalities, its classes, its training recipe, its split, and how its source is read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.modality import Modality as Modality
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError
from balance_tune.tasks import Task as Task


@dataclass(frozen=True)
class Samples:
    """A whole dataset in memory, in the order of its source.

    Attributes:
        inputs: modality -> (N, *stored); finite. Whole numbers of at most 32 bits and float16 stay as they are, all
            else is made float32.
        labels: (N,), made int64: the class of each sample; or (N, labels) of 0 and 1, or (N, targets), made float32.
        groups: (N,), made int64; who or what a sample is of (speaker, subject, video), or None.
        parts: (N,), made int8; the official part of each sample as an index into `PARTS`, or None.

    Raises:
        UserError: arrays of unequal length, of the wrong kind, empty, or with values that are not finite.
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[Any]
    groups: NDArray[np.int64] | None = None
    parts: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if rows == 0 or not self.inputs:
            raise UserError(f"a dataset needs samples and modalities, but got {rows} and {len(self.inputs)}.")
        if np.ndim(self.labels) == 2:
            object.__setattr__(self, "labels", _finite("labels", self.labels, rows))
        else:
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


KEPT = ("uint8", "int16", "int32", "float16")
"""Types that samples may have beside float32."""


def _finite(name: str, values: Any, rows: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise UserError(f"modality `{name}` must be an array of numbers, but got {array.dtype} of shape {array.shape}.")
    if len(array.shape) < 2 or array.shape[0] != rows:
        raise UserError(
            f"modality `{name}` must have shape (samples, *shape) with {rows} samples, but got {array.shape}."
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and is reported below
        array = np.ascontiguousarray(array, dtype=array.dtype if array.dtype.name in KEPT else np.float32)
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
    task: ClassVar[Task] = "classes"
    classes: ClassVar[tuple[str, ...]]
    """Names of the classes, of the labels of a `multilabel` task, or of the targets of a `regression`."""
    modalities: ClassVar[dict[str, Modality]]
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {}
    """How it is trained by default: a setting of `TrainingSettings` -> (value, where the value is from)."""
    split: ClassVar[SplitRecipe]
    licence: ClassVar[str] = ""
    source: ClassVar[str] = ""
    limits: ClassVar[tuple[str, ...]] = ()
    """What a reader of the results must know about the data, in words."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that `decode` needs beside those of any model."""

    @abstractmethod
    def read(self) -> Samples:
        """Return every sample, unstandardised, in an order that never changes."""

    def decode(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Return one sample of `modality` as `read` gives it (declared shape, unstandardised), from what a user has.

        Served models and `evaluate` send their inputs through here. Numbers of the declared shape are taken by every
        dataset; one whose source holds files overrides this to take their bytes too, and prepares them as `read` does.

        Args:
            modality: its name.
            raw: bytes of a file, an array, or nested lists of numbers.

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
        """Return numbers (an array, or nested lists) as float32 if they are finite and have the modality's shape.

        Of a modality whose samples are not standardised in the store it is the shape that they are stored in.

        Args:
            modality: its name.
            raw: an array, or nested lists of numbers.

        Raises:
            UserError: they are no numbers, not finite, or of another shape.
        """
        shape = self.modalities[modality].stored
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
        """Check what the class declares.

        Raises:
            UserError: a name, a class, a modality or the split recipe is impossible; the line says which.
        """
        for attribute in ("name", "classes", "modalities", "split"):
            if not hasattr(self, attribute):
                raise UserError(f"dataset class {type(self).__qualname__} must declare `{attribute}`, but does not.")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UserError(f"a dataset's name must be lower-case letters, digits and _, but got `{self.name}`.")
        least = 1 if self.task == "regression" else 2
        if len(self.classes) < least or len(set(self.classes)) < len(self.classes):
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
        """Check that samples are what the class declares.

        Args:
            samples: all rows, as `read` returned them.

        Raises:
            UserError: number, shape, type or values are others than declared.
        """
        if list(samples.inputs) != list(self.modalities):
            raise UserError(
                f"dataset `{self.name}` must read the modalities it declares, in their order: "
                f"{', '.join(self.modalities)}; but got {', '.join(samples.inputs)}."
            )
        for name, modality in self.modalities.items():
            if samples.inputs[name].shape[1:] != modality.stored:
                raise UserError(
                    f"modality `{name}` of dataset `{self.name}` must have shape {modality.stored}, but got "
                    f"{samples.inputs[name].shape[1:]}."
                )
            if modality.dtype != "float32" and samples.inputs[name].dtype != modality.dtype:
                raise UserError(
                    f"modality `{name}` of dataset `{self.name}` must be {modality.dtype}, but got "
                    f"{samples.inputs[name].dtype}."
                )
        self.check_labels(samples.labels)

    def check_labels(self, labels: NDArray[Any]) -> None:
        """Check that labels are those of the task and its classes.

        Args:
            labels: of all rows: (N,) of classes or values, (N, C) of several labels at once.

        Raises:
            UserError: one is none of the task and its classes.
        """
        if self.task != "classes":
            if labels.ndim != 2 or labels.shape[1] != len(self.classes):
                raise UserError(
                    f"labels of dataset `{self.name}` must have shape (samples, {len(self.classes)}), but got "
                    f"{labels.shape}."
                )
            if self.task == "multilabel" and not np.isin(labels, (0, 1)).all():
                raise UserError(f"labels of the multilabel dataset `{self.name}` must be 0 or 1, but some are not.")
            return
        if labels.ndim != 1:
            raise UserError(f"labels of dataset `{self.name}` must be one class a sample, but got {labels.shape}.")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise UserError(
                f"labels of dataset `{self.name}` must lie from 0 to {len(self.classes) - 1} (its classes), but got "
                f"{low} to {high}."
            )


RESERVED = ("label", "row", "group")
"""Columns of a store beside the modalities."""
