"""In-place changes of gradients (which carry no graph), in few operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def scale(gradients: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply every gradient by a 0-d factor that stays on the device."""
    if gradients:
        torch._foreach_mul_(list(gradients), factor.to(gradients[0].dtype))


def deviations(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element."""
    if not gradients:
        return []
    sigma = torch.stack([g.std() if g.numel() > 1 else g.new_zeros(()) for g in gradients])
    return list(sigma.add_(1e-8).unbind())


def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor], generator: torch.Generator) -> None:
    """Add N(0, sigma^2) noise to each gradient: one draw for all elements, in order."""
    if not gradients:
        return
    count = sum(g.numel() for g in gradients)
    flat = gradients[0].new_empty(count).normal_(generator=generator)
    noise = torch._utils._unflatten_dense_tensors(flat, gradients)
    torch._foreach_addcmul_(list(gradients), list(noise), list(sigma))
