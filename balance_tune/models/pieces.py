"""Encodes a batch piece by piece, for a device that cannot hold all of its activations at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from balance_tune.models.bridge import Exchange
from balance_tune.models.fusion import Features

Inputs = dict[str, Tensor]


def encode_in_pieces(
    encode: Callable[[Inputs], Features], inputs: Inputs, size: int, observers: Sequence[nn.Module]
) -> Features:
    """Return {modality: (B, d_m)} of the whole batch while only one piece of `size` rows has its activations.

    Each piece is encoded once more in every backward pass, and its gradient is added to those of the others. So
    whatever happens to features, logits and losses sees the whole batch, as without pieces. `observers` are the parts
    that keep something of a training pass (`observers_of`): they ignore the second encoding. Batch normalisations see
    one piece at a time.

    Args:
        encode: inputs to features.
        inputs: {modality: (B, *shape)}.
        size: rows of a piece.
        observers: the parts that keep something of a training pass.
    """
    rows = len(next(iter(inputs.values())))
    again = KeepNothing(observers)
    exchanges = [part for part in observers if isinstance(part, Exchange)]
    pieces = []
    for start in range(0, rows, size):
        for exchange in exchanges:
            exchange.keep = "more" if start else "new"
        piece = {m: x[start : start + size] for m, x in inputs.items()}
        pieces.append(checkpoint(encode, piece, use_reentrant=False, context_fn=lambda: (nullcontext(), again)))
    for exchange in exchanges:
        exchange.keep = "new"
    return {m: torch.cat([features[m] for features in pieces]) for m in pieces[0]}


def observers_of(module: nn.Module) -> list[nn.Module]:
    """Return the parts that keep something of a training pass: running statistics, excitations."""
    parts = module.modules()
    return [p for p in parts if isinstance(p, Exchange) or getattr(p, "running_mean", None) is not None]


class KeepNothing(AbstractContextManager[None]):
    """While it is entered, `observers` keep nothing of a pass; it can be entered again after it was left."""

    def __init__(self, observers: Sequence[nn.Module]) -> None:
        self._exchanges = [part for part in observers if isinstance(part, Exchange)]
        self._normalisations: list[Any] = [part for part in observers if not isinstance(part, Exchange)]

    def __enter__(self) -> None:
        self._momentum = [part.momentum for part in self._normalisations]
        self._counts = [None if (n := part.num_batches_tracked) is None else n.clone() for part in self._normalisations]
        for part in self._normalisations:
            part.momentum = 0.0
        for exchange in self._exchanges:
            exchange.keep = "nothing"

    def __exit__(self, *error: object) -> None:
        for part, momentum, count in zip(self._normalisations, self._momentum, self._counts, strict=True):
            part.momentum = momentum
            if count is not None:
                part.num_batches_tracked.copy_(count)
        for exchange in self._exchanges:
            exchange.keep = "new"
