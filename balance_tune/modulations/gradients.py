"""In-place changes of gradients (which carry no graph), in few operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from balance_tune.modulations.context import Context
from balance_tune.private_torch import foreach

MANY = 2**18  # elements from which on a CPU draws noise gradient by gradient; all at once would leave the caches


def scale(gradients: Sequence[Tensor], factor: Tensor | float) -> None:
    """Multiply every gradient by a factor, a number or 0-d on the device, where it stays."""
    if not gradients:
        return
    if isinstance(factor, Tensor):
        foreach("mul_", gradients, factor.to(gradients[0].dtype))
    elif factor != 1:
        foreach("mul_", gradients, factor)


def deviations(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element."""
    return [(g.std() if g.numel() > 1 else g.new_zeros(())).add_(1e-8) for g in gradients]


def deviations_on_host(gradients: Sequence[Tensor]) -> list[float]:
    """Return the same as numbers."""
    return [(g.std().item() if g.numel() > 1 else 0.0) + 1e-8 for g in gradients]


def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor], ctx: Context) -> None:
    """Add N(0, sigma^2) noise to each gradient, the same on every worker."""
    if gradients:
        foreach("addcmul_", gradients, ctx.shared_normal("noise", gradients), list(sigma))


def add_noise_on_host(gradients: Sequence[Tensor], sigma: Sequence[float], ctx: Context) -> None:
    """Add the same with deviations that are numbers."""
    if sum(g.numel() for g in gradients) > MANY:
        generator = ctx.shared_generator("noise")
        for g, s in zip(gradients, sigma, strict=True):
            g.add_(shaped(g.new_empty(g.numel()).normal_(generator=generator), g), alpha=s)
    elif gradients:
        for g, z, s in zip(gradients, ctx.shared_normal("noise", gradients), sigma, strict=True):
            g.add_(z, alpha=s)


def shaped(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers (n,) in the shape of a tensor, and where that has no gaps as it lies in memory."""
    if like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last):
        return numbers.as_strided(like.shape, like.stride(), numbers.storage_offset())
    return numbers.view(like.shape)
