"""In-place changes of gradients (which carry no graph), in few operations and without a synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from balance_tune.modulations.context import Context
from balance_tune.private_torch import foreach


def scale(gradients: Sequence[Tensor], factor: Tensor | float) -> None:
    """Multiply every gradient by a factor, a number or 0-d on the device, where it stays.

    Args:
        gradients: changed in place.
        factor: common to all of them.
    """
    if not gradients:
        return
    if isinstance(factor, Tensor):
        foreach("mul_", gradients, factor.to(gradients[0].dtype))
    elif factor != 1:
        foreach("mul_", gradients, factor)


def deviations(gradients: Sequence[Tensor], ctx: Context) -> list[Tensor | float]:
    """Return sigma = std(g) + 1e-8 of each gradient (unbiased, over all elements); 1e-8 for a single element.

    Numbers where `ctx.on_cpu`, which are faster to scale with there; else 0-d on the device.
    """
    each = [g.std() if g.numel() > 1 else g.new_zeros(()) for g in gradients]
    return [(sigma.item() if ctx.on_cpu else sigma) + 1e-8 for sigma in each]


def add_noise(gradients: Sequence[Tensor], sigma: Sequence[Tensor | float], ctx: Context) -> None:
    """Add N(0, sigma^2) noise to each gradient, the same on every worker.

    Args:
        gradients: changed in place.
        sigma: the noise's standard deviation for each gradient, numbers or 0-d.
        ctx: the run, whose seed the noise follows from.
    """
    if not gradients:
        return
    noise = ctx.shared_normal("noise", gradients)
    numbers = [s for s in sigma if not isinstance(s, Tensor)]
    if len(numbers) < len(sigma):
        foreach("addcmul_", gradients, list(noise), sigma)
        return
    for g, z, s in zip(gradients, noise, numbers, strict=True):
        g.add_(z, alpha=s)
