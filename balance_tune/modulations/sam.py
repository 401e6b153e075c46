"""SAM: the step is taken along the gradient at the worst weights nearby, which leads to flatter minima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.private_torch import foreach
from balance_tune.tunable import tunable


@dataclass
class Sam(Modulation):
    """Sharpness-aware minimisation, which does not look at modalities: the control for `m_sam`.

    eps = rho g / |g|,  g = grad L(theta), one norm over all parameters
    theta <- optimiser's step from theta with grad L(theta + eps)

    The second pass has the first one's dropout masks, and BatchNorm's running statistics are updated by the first pass
    only. With several workers eps follows from the averaged gradient. Weight decay acts on the unperturbed weights.
    In a chain the other methods' losses are part of L, and `on_gradients` runs on the gradient that the step takes;
    what they keep of the step's answers is of the second pass.
    """

    name: ClassVar[str] = "sam"
    paper: ClassVar[str] = (
        "Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR 2021"
    )
    cost: ClassVar[str] = "a second forward and backward pass"
    second_pass: ClassVar[bool] = True

    rho: float = tunable(0.05, low=0.01, high=0.5, log=True, source="the paper's default")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "rho")

    def share(self, output: Output, batch: Batch, ctx: Context) -> Tensor | float:
        """Return the weight of the gradient at theta + eps in the step's gradient; the rest is the one at theta."""
        return 1.0

    def train_step(self, batch: Batch, ctx: Context) -> Tensor:
        output = ctx.hooks.forward(batch, ctx)
        fused = ctx.loss(output.logits, output.batch)
        share = self.share(output, batch, ctx)
        self._backward({"fused": fused}, output, ctx)
        parameters: list[Tensor] = [p for p in ctx.parameters if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        weights = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            length = torch.nn.utils.get_total_norm(gradients)
            ascent = foreach("mul", gradients, self.rho / (length + 1e-12))
            foreach("add_", parameters, ascent)
        ctx.zero_gradients()
        above = ctx.again(batch)
        self._backward({"fused": ctx.loss(above.logits, above.batch)}, above, ctx)
        with torch.no_grad():
            foreach("copy_", parameters, weights)
            for p, g in zip(parameters, gradients, strict=True):
                risen = torch.zeros_like(g) if p.grad is None else p.grad
                p.grad = torch.lerp(g, risen, share.to(g.dtype) if isinstance(share, Tensor) else share)
        ctx.hooks.on_gradients(output, output.batch, ctx)
        ctx.hooks.observe(output, output.batch, ctx)
        ctx.optimizer_step()
        return fused.detach()

    def _backward(self, losses: Losses, output: Output, ctx: Context) -> None:
        ctx.hooks.backward(ctx.hooks.on_losses(losses, output, output.batch, ctx), ctx)
        ctx.average_gradients()

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"rho": 0.0})
