"""In-place changes of gradients (which carry no graph), in few operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

CACHED = 2**18  # elements up to which a CPU draws noise for all gradients at once; more of it would leave the caches


def scale(gradients: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply every gradient by a 0-d factor that stays on the device."""
    if gradients:
        torch._foreach_mul_(list(gradients), factor.to(gradients[0].dtype))


def deviations(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element."""
    if not gradients:
        return []
    sigma = [g.std() if g.numel() > 1 else g.new_zeros(()) for g in gradients]
    torch._foreach_add_(sigma, 1e-8)
    return sigma


def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor], generator: torch.Generator) -> None:
    """Add N(0, sigma^2) noise to each gradient, drawn in the order in which its elements lie in memory."""
    if not gradients:
        return
    ends = list(accumulate((g.numel() for g in gradients), initial=0))
    if ends[-1] > CACHED and gradients[0].device.type == "cpu" and len(gradients) > 1:
        for g, s in zip(gradients, sigma, strict=True):
            add_noise([g], [s], generator)
        return
    flat = gradients[0].new_empty(ends[-1]).normal_(generator=generator)
    noise = [_part(flat, at, g) for at, g in zip(ends, gradients, strict=False)]
    torch._foreach_addcmul_(list(gradients), noise, list(sigma))


def _part(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """Return the part of `flat` from `start` on in the shape of a gradient, and where that has no gaps as it lies."""
    if like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last):
        return flat.as_strided(like.shape, like.stride(), start)
    return flat.narrow(0, start, like.numel()).view(like.shape)
