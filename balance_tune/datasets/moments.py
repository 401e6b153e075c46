"""Mean and spread of a modality, added up from pieces in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.modality import Modality, Statistics

CHUNK = 64  # samples turned into float64 at a time


@dataclass(frozen=True)
class Moments:
    """Counts, sums and sums of squares over the `standardise` axes of a modality, in stored values.

    `pivot` is subtracted from every value first, so that squares of a small spread around a large mean keep digits.
    """

    count: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    pivot: float

    @classmethod
    def of(cls, x: NDArray[Any], modality: Modality) -> Moments:
        """Return the moments of samples (N, *stored)."""
        axes = [1 + axis for axis in modality.standardise]
        shape = tuple(x.shape[axis] for axis in axes)
        pooled = tuple(axis for axis in range(x.ndim) if axis not in axes)
        total, squares = np.zeros(shape), np.zeros(shape)
        pivot = 0.5 / modality.unit if modality.dtype == "uint8" else 0.0
        for start in range(0, len(x), CHUNK):
            piece = x[start : start + CHUNK].astype(np.float64) - pivot
            total += piece.sum(pooled)
            squares += (piece * piece).sum(pooled)
        return cls(x.size // max(1, int(np.prod(shape))), total, squares, pivot)

    @classmethod
    def sum(cls, pieces: Iterable[Moments]) -> Moments:
        """Return the moments of all pieces together, added in their order."""
        first, *rest = pieces
        count, total, squares = first.count, first.total.copy(), first.squares.copy()
        for piece in rest:
            count, total, squares = count + piece.count, total + piece.total, squares + piece.squares
        return cls(count, total, squares, first.pivot)

    def statistics(self, modality: Modality) -> Statistics:
        """Return mean and standard deviation in real values; a spread that is rounding alone counts as 1."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0.0)
        mean, std = (mean + self.pivot) * modality.unit, np.sqrt(variance) * modality.unit
        std = np.where(std > 1e-6 * np.maximum(1.0, np.abs(mean)), std, 1.0)
        return Statistics(mean.tolist(), std.tolist())
