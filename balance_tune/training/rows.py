"""Rows of a part that are named but not read yet: going through them sample by sample reads no more than is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from balance_tune.datasets.sharded import Sharded

if TYPE_CHECKING:
    from balance_tune.training.buffers import Buffers


class Rows:
    """Samples (B, *stored) on the CPU, where they lie; it answers to what going through a tensor's samples needs.

    Args:
        source: all samples of a part.
        rows: (B,) on the CPU.
    """

    def __init__(self, source: Tensor | Sharded, rows: Tensor) -> None:
        self.source, self.rows = source, rows
        self.shape = torch.Size((len(rows), *source.shape[1:]))
        self.dtype, self.device = source.dtype, torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each sample (*stored) as it lies there: to be read, never to be written."""
        return map(self.source.__getitem__, self.rows.tolist())

    def dim(self) -> int:
        """Return the number of axes of the samples together."""
        return len(self.shape)

    def gathered(self, buffers: Buffers | None = None) -> Tensor:
        """Return them as one tensor (B, *stored)."""
        out = None if buffers is None else buffers.empty(tuple(self.shape), self.dtype)
        return gather(self.source, self.rows, out)


def gather(source: Tensor | Sharded, rows: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the samples at `rows` (B,), in `out` where it is given.

    Args:
        source: (N, *stored).
        rows: (B,) long, where the source is.
        out: (B, *stored) to be filled, or None.

    Returns:
        (B, *stored).
    """
    if isinstance(source, Sharded):
        return source.gather(rows, out)
    return source.index_select(0, rows) if out is None else torch.index_select(source, 0, rows, out=out)
