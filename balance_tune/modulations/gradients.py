"""In-place changes of gradients (which carry no graph), in few operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from balance_tune.training.context import Context

MANY = 2**18  # elements from which on a CPU draws noise gradient by gradient; all at once would leave the caches


def scale(gradients: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply every gradient by a 0-d factor that stays on the device."""
    if gradients:
        torch._foreach_mul_(list(gradients), factor.to(gradients[0].dtype))


def deviations(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element."""
    return [(g.std() if g.numel() > 1 else g.new_zeros(())).add_(1e-8) for g in gradients]


def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor], ctx: Context) -> None:
    """Add N(0, sigma^2) noise to each gradient, the same on every worker."""
    if not gradients:
        return
    if gradients[0].device.type == "cpu" and sum(g.numel() for g in gradients) > MANY:
        generator = ctx.shared_generator("noise")
        for g, s in zip(gradients, sigma, strict=True):
            g.addcmul_(shaped(g.new_empty(g.numel()).normal_(generator=generator), g), s)
    else:
        torch._foreach_addcmul_(list(gradients), ctx.shared_normal("noise", gradients), list(sigma))


def shaped(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers (n,) in the shape of a tensor, and where that has no gaps as it lies in memory."""
    if like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last):
        return numbers.as_strided(like.shape, like.stride(), numbers.storage_offset())
    return numbers.view(like.shape)
