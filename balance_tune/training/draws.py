"""Random numbers of steps, drawn for several steps at once: starting a generator costs more than a thousand numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from balance_tune.seeds import derive

AHEAD = 16  # steps
MANY = 2**18  # numbers that are drawn at once, unless a single step needs more


@dataclass
class _Block:
    layout: Any  # of what a step is given, and its type
    numbers: Tensor  # (steps, size)
    parts: list[Any]  # views of it, one entry a step
    drawn: tuple[int, int] | None = None  # trial's seed and number of the block that is in it


class Draws:
    """Numbers that follow from (trial seed, purpose, step): the same on every worker, and after every resume.

    They lie in memory that later steps use again: whoever wants to keep them makes a copy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device)
        self._blocks: dict[str, _Block] = {}

    def uniform(self, seed: int, purpose: str, step: int, shape: tuple[int, ...]) -> Tensor:
        """Return numbers of [0, 1) in a shape, float32."""
        block = self._blocks.get(purpose)
        if block is None or block.layout != shape:
            block = self._block(purpose, shape, math.prod(shape), torch.float32, lambda row: row.view(shape))
        part: Tensor = self._part(block, seed, purpose, step, Tensor.uniform_)
        return part

    def normal(self, seed: int, purpose: str, step: int, like: Sequence[Tensor]) -> list[Tensor]:
        """Return N(0, 1) numbers in the shapes of tensors of one type, which lie in memory as the tensors do."""
        layout = (like[0].dtype, [x.shape for x in like], [x.stride() for x in like])
        block = self._blocks.get(purpose)
        if block is None or block.layout != layout:
            sizes = [x.numel() for x in like]

            def part_of(row: Tensor) -> list[Tensor]:
                return [shaped(piece, x) for piece, x in zip(row.split(sizes), like, strict=True)]

            block = self._block(purpose, layout, sum(sizes), layout[0], part_of)
        parts: list[Tensor] = self._part(block, seed, purpose, step, Tensor.normal_)
        return parts

    def _block(
        self, purpose: str, layout: Any, size: int, dtype: torch.dtype, part_of: Callable[[Tensor], Any]
    ) -> _Block:
        steps = max(1, min(AHEAD, MANY // max(1, size)))
        numbers = torch.empty(steps, size, dtype=dtype, device=self._device)
        block = _Block(layout, numbers, [part_of(row) for row in numbers])
        if steps > 1:  # of many numbers the memory is given back
            self._blocks[purpose] = block
        return block

    def _part(self, block: _Block, seed: int, purpose: str, step: int, fill: Callable[..., Tensor]) -> Any:
        number, at = divmod(step, len(block.parts))
        if block.drawn != (seed, number):
            self._generator.manual_seed(derive(seed, purpose, number))
            fill(block.numbers, generator=self._generator)
            block.drawn = (seed, number)
        return block.parts[at]


def shaped(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers (n,) in the shape of a tensor, and where that has no gaps as it lies in memory."""
    if like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last):
        return numbers.as_strided(like.shape, like.stride(), numbers.storage_offset())
    return numbers.view(like.shape)
