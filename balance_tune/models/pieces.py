"""Encodes a batch piece by piece, for a device that cannot hold all of its activations at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from balance_tune.models.fusion import Features

Inputs = dict[str, Tensor]


def encode_in_pieces(
    encode: Callable[[Inputs], Features], inputs: Inputs, size: int, normalisations: list[nn.Module]
) -> Features:
    """Return {modality: (B, d_m)} of the whole batch while only one piece of `size` rows has its activations.

    Each piece is encoded once more on the way back, and its gradient is added to those of the others. So whatever
    happens to features, logits and losses sees the whole batch, as without pieces. `normalisations` are the encoders'
    batch normalisations: in training they see one piece at a time, and keep their statistics at the second encoding.
    """
    rows = len(next(iter(inputs.values())))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), still(normalisations)

    found = [
        checkpoint(encode, {m: x[i : i + size] for m, x in inputs.items()}, use_reentrant=False, context_fn=contexts)
        for i in range(0, rows, size)
    ]
    return {m: torch.cat([features[m] for features in found]) for m in found[0]}


def batch_normalisations(module: nn.Module) -> list[nn.Module]:
    """Return the parts that keep running statistics."""
    return [part for part in module.modules() if getattr(part, "running_mean", None) is not None]


@contextmanager
def still(normalisations: list[nn.Module]) -> Iterator[None]:
    """Keep running statistics as they are while these normalise with the statistics of a batch."""
    before = [(part.momentum, part.num_batches_tracked) for part in normalisations]
    for part in normalisations:
        part.momentum = 0.0  # type: ignore[assignment]
        part.num_batches_tracked = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for part, (momentum, tracked) in zip(normalisations, before, strict=True):
            part.momentum, part.num_batches_tracked = momentum, tracked
