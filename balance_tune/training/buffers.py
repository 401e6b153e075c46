"""Memory for batches that is used again once its content is not held any more: fresh pages cost as much as filling."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST = 2**20  # bytes below which the allocator keeps memory by itself
SPARE = 3  # blocks that wait to be used again: two made ahead and one in use


class Buffers:
    """Gives out tensors on the CPU and takes their memory back when the last tensor that lies in it is gone.

    A batch that is kept, a view of it, or what autograd saved of it stays as it is for as long as it is kept;
    meanwhile others are given other memory. Threads may share one.
    """

    def __init__(self) -> None:
        self._free: dict[int, Tensor] = {}  # by address

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor."""
        size = math.prod(shape) * dtype.itemsize
        if size < LEAST:
            return torch.empty(shape, dtype=dtype)
        block = self._taken(size)
        # the tensor's memory keeps this array alive, and nothing else does: it goes with the last that shares it
        array: NDArray[Any] = block.numpy()[:size]
        weakref.finalize(array, _release, self._free, block).atexit = False
        return torch.from_numpy(array).view(dtype).view(shape)

    def _taken(self, size: int) -> Tensor:
        """Return the smallest free block that holds `size` bytes, or a new one."""
        for address, block in sorted(self._free.items(), key=lambda entry: len(entry[1])):
            if len(block) >= size and self._free.pop(address, None) is not None:  # else another thread has it by now
                return block
        return torch.empty(size, dtype=torch.uint8)


def _release(free: dict[int, Tensor], block: Tensor) -> None:
    free[block.data_ptr()] = block
    while len(free) > SPARE:
        smallest, _ = min(free.items(), key=lambda entry: len(entry[1]))
        free.pop(smallest, None)
