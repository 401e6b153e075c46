"""In-place changes of gradients, in a few fused operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def scale(gradients: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply every gradient by a 0-d factor that stays on the device."""
    if gradients:
        torch._foreach_mul_(list(gradients), factor.to(gradients[0].dtype))


@torch.no_grad()
def deviations(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element."""
    return [g.std() + 1e-8 if g.numel() > 1 else g.new_full((), 1e-8) for g in gradients]


@torch.no_grad()
def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor], generator: torch.Generator) -> None:
    """Add N(0, sigma^2) noise to each gradient: one draw for all elements, in order."""
    if not gradients:
        return
    first = gradients[0]
    flat = torch.empty(sum(g.numel() for g in gradients), dtype=first.dtype, device=first.device)
    flat.normal_(generator=generator)
    noise = [n.view(g.shape) for n, g in zip(flat.split([g.numel() for g in gradients]), gradients, strict=True)]
    torch._foreach_mul_(noise, list(sigma))
    torch._foreach_add_(list(gradients), noise)
