"""One modality of a dataset: what lies in the store, what the encoder sees, and what happens between the two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.errors import UserError

DType = Literal["float32", "float16", "int16", "uint8", "int32"]
Operation = tuple[str, Mapping[str, Any]]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue in 0 .. 1, as image models conventionally take them."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a modality's training rows, over its `standardise` axes, in their order."""

    mean: float | list[Any]
    std: float | list[Any]


@dataclass(frozen=True)
class Modality:
    """One modality: `shape` of one sample as its encoder sees it, and that encoder (registered name, settings).

    Attributes:
        standardise: the axes of a sample whose every position has its own mean and standard deviation; they are pooled
            over the other axes. (0,) is one per feature of a vector and one per channel of an image or a series;
            (0, 1) is one per frequency of a spectrogram (channels, frequencies, frames).
        stored: shape of one sample in the store, where it is not `shape` (images to be cropped, say).
        dtype: type in the store. int32 are token ids, 0 is padding.
        unit: what a stored 1 means (1/255 for pixels); the real value is stored times unit.
        normalise: "baked": the store holds standardised values. "train": standardised when loaded, by the training
            rows' statistics. (means, deviations) per channel (axis 0), in real values. None: real values as they are.
        augment: operations on a training batch, in order, each (name, settings).
        evaluate: the same on every other batch.
    """

    shape: tuple[int, ...]
    encoder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    standardise: tuple[int, ...] = (0,)
    stored: tuple[int, ...] = ()
    dtype: DType = "float32"
    unit: float = 1.0
    normalise: Literal["baked", "train"] | tuple[tuple[float, ...], tuple[float, ...]] | None = "baked"
    augment: tuple[Operation, ...] = ()
    evaluate: tuple[Operation, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stored", tuple(self.stored) or tuple(self.shape))
        for name in ("shape", "stored"):
            shape = getattr(self, name)
            if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
                raise UserError(f"a modality's shape must be positive whole numbers, but got ({name}={shape}).")
        if not self.encoder:
            raise UserError(f"a modality must name its encoder, but got (encoder={self.encoder!r}).")
        for what, value in (("an encoder's settings", dict(self.settings)), ("operations", [*self.operations])):
            try:
                json.dumps(value)
            except TypeError as error:
                raise UserError(f"{what} must be plain JSON, but: {error}.") from error
        if any(axis not in range(len(self.stored)) for axis in self.standardise):
            raise UserError(
                f"`standardise` must name axes of the shape, but got (standardise={self.standardise}, "
                f"shape={self.stored})."
            )
        if self.normalise == "baked" and self.dtype != "float32":
            raise UserError(f"standardised values must be float32, but got (dtype={self.dtype}, normalise='baked').")
        if self.ids and self.normalise is not None:
            raise UserError(f"token ids must not be normalised, but got (normalise={self.normalise!r}).")

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Return the operations of training and of evaluation."""
        return (*self.augment, *self.evaluate)

    @property
    def ids(self) -> bool:
        """Whether samples are token ids, not quantities."""
        return self.dtype == "int32"

    @property
    def nbytes(self) -> int:
        """Bytes of one stored sample."""
        return int(np.prod(self.stored)) * np.dtype(self.dtype).itemsize

    def affine(self, statistics: Statistics | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return (scale, shift) that broadcast over a stored sample: the model's input is stored * scale + shift.

        None where there is nothing to do but to change the type. Axes that operations change in length are pooled
        ones, so that it holds for the result of the operations too.

        Args:
            statistics: mean and deviation of the training rows; None where nothing is standardised.

        Raises:
            UserError: statistics are needed and there are none.
        """
        if self.ids or self.normalise == "baked":
            return None
        mean: Any = np.zeros(1)
        std: Any = np.ones(1)
        if self.normalise == "train":
            if statistics is None:
                raise UserError("a modality standardised when loaded needs the statistics of its store, but has none.")
            mean, std = np.asarray(statistics.mean), np.asarray(statistics.std)
            axes: tuple[int, ...] = self.standardise
        elif self.normalise is not None:
            mean, std = np.asarray(self.normalise[0]), np.asarray(self.normalise[1])
            axes = (0,)
        else:
            axes = ()
        shape = [n if axis in axes else 1 for axis, n in enumerate(self.stored)]
        scale = np.broadcast_to(self.unit / std, mean.shape).reshape(shape)
        return scale, (-mean / std).reshape(shape)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Modality:
        """Return the modality whose fields were written as JSON.

        Args:
            entry: the fields, as a manifest holds them.
        """
        fields = dict(entry)
        for name in ("shape", "stored", "standardise"):
            fields[name] = tuple(fields[name])
        for name in ("augment", "evaluate"):
            fields[name] = tuple((operation, settings) for operation, settings in fields[name])
        if isinstance(fields["normalise"], list):
            means, deviations = fields["normalise"]
            fields["normalise"] = (tuple(means), tuple(deviations))
        return cls(**fields)


def rgb(
    shape: tuple[int, ...],
    stored: tuple[int, ...] = (),
    augment: tuple[Operation, ...] = (),
    evaluate: tuple[Operation, ...] = (),
) -> Modality:
    """Return pictures (3, H, W) or frames (3, T, H, W): bytes in the store, scaled as ImageNet's for a ResNet-18."""
    return Modality(
        shape,
        "resnet18",
        stored=stored,
        dtype="uint8",
        unit=1 / 255,
        normalise=IMAGENET,
        augment=augment,
        evaluate=evaluate,
    )
