"""Samples that lie in several mapped files, addressed as one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGE = 16384  # bytes of a sample from which on samples are copied one by one: faster than by index, and no second copy


PIECE = 1024  # samples gathered at a time where all are read


class Sharded:
    """Tensors (n_k, *shape) of one type, one after the other, read by row; rows are read as a copy.

    It answers to as much of a tensor as reading rows needs: `x[rows]`, `len`, `shape`, `dtype`, `nbytes`, `dim`; x[row]
    is the sample itself.

    Args:
        tensors: the files' samples, in order.
        rows: (n,) which of all samples these are, in this order; None: all of them.
    """

    def __init__(self, tensors: Sequence[Tensor], rows: Tensor | None = None) -> None:
        self.tensors, self.rows = tuple(tensors), rows
        self._ends = list(accumulate(len(t) for t in self.tensors))

    def __len__(self) -> int:
        return self._ends[-1] if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all files together, (N, *stored)."""
        return (len(self), *self.tensors[0].shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return self.tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.tensors[0].device

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def dim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Whether the values are floats."""
        return self.tensors[0].is_floating_point()

    def __getitem__(self, rows: Tensor | slice | int) -> Tensor:
        import torch

        if isinstance(rows, int):
            if not 0 <= rows < len(self):
                raise IndexError(f"a row must lie from 0 to {len(self) - 1}, but got {rows}.")
            rows = rows if self.rows is None else int(self.rows[rows])
            k = bisect_right(self._ends, rows)
            return self.tensors[k][rows - self._start(k)]
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(len(self)))
        return self.gather(rows)

    def gather(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the samples at `rows` (B,) as (B, *shape), in `out` where it is given.

        Raises:
            IndexError: a row does not exist.
        """
        import torch

        if out is None:
            out = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        wanted: list[int] = rows.tolist()
        if wanted and (min(wanted) < 0 or max(wanted) >= len(self)):
            raise IndexError(f"rows must lie from 0 to {len(self) - 1}, but got {min(wanted)} to {max(wanted)}.")
        if self.rows is not None:
            rows = self.rows[rows]
            wanted = rows.tolist()
        shard = [bisect_right(self._ends, row) for row in wanted]
        if math.prod(self.shape[1:]) * self.dtype.itemsize >= LARGE:
            for position, (row, k) in enumerate(zip(wanted, shard, strict=True)):
                out[position].copy_(self.tensors[k][row - self._start(k)])
            return out
        which = torch.tensor(shard)
        for k in sorted(set(shard)):
            at = (which == k).nonzero().squeeze(1)
            out[at] = self.tensors[k][rows[at] - self._start(k)]
        return out

    def to(self, device: torch.device | str) -> Tensor:
        """Return all samples as one tensor on `device`, file after file."""
        import torch

        whole = torch.empty(self.shape, dtype=self.dtype, device=device)
        if self.rows is None:
            for k, tensor in enumerate(self.tensors):
                whole[self._start(k) : self._ends[k]].copy_(tensor)
            return whole
        for start in range(0, len(self), PIECE):
            rows = torch.arange(start, min(start + PIECE, len(self)))
            whole[start : start + PIECE].copy_(self.gather(rows))
        return whole

    def _start(self, k: int) -> int:
        return self._ends[k - 1] if k else 0
