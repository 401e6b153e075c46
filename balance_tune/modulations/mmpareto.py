"""MMPareto: each encoder follows a direction that its fused and its own loss agree on, at full length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Losses
from balance_tune.modulations.context import Context
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.private_torch import foreach
from balance_tune.tunable import tunable

OFFICIAL = "GeWu-Lab/MMPareto_ICML2024, CREMA-D"
CANCELLED = 1e-5


def min_norm_weight(squared: Tensor, product: Tensor, other_squared: Tensor) -> Tensor:
    """Return w, 0-d in [0.001, 0.999], that makes |w a + (1-w) b| smallest, from |a|^2, <a, b> and |b|^2.

    w = (|b|^2 - <a, b>) / |a - b|^2 where the shortest point lies between a and b, else the shorter one's end.
    """
    inner = (other_squared - product) / (squared + other_squared - 2 * product)
    ended = torch.where(product >= other_squared, torch.full_like(inner, 0.001), inner)
    return torch.where(product >= squared, torch.full_like(inner, 0.999), ended)


def pareto_weight(fused: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Tensor:
    """Return w_mm, the fused loss's weight (its own loss has the rest), from an encoder's two gradients.

    1/2 where they agree (positive cosine), else the min-norm weight.
    """
    g_mm, g_u = (torch.cat([g.reshape(-1) for g in gs]) for gs in (fused, unimodal))
    product = g_mm @ g_u
    return torch.where(product > 0, 0.5, min_norm_weight(g_mm @ g_mm, product, g_u @ g_u))


def integrate(fused: Sequence[Tensor], unimodal: Sequence[Tensor], weight: Tensor, gamma: float) -> list[Tensor]:
    """Return an encoder's new gradients, per tensor gamma max(1, |g_mm + g_u| / |g|) g, g = 2 (w g_mm + (1-w) g_u).

    A tensor in which the two cancel is not stretched: its direction is rounding.
    """
    plain = foreach("add", fused, list(unimodal))
    new = foreach("mul", fused, 2 * weight)
    foreach("add_", new, foreach("mul", unimodal, 2 * (1 - weight)))
    length, wanted, a, b = (torch.stack(foreach("norm", gs)) for gs in (new, plain, fused, unimodal))
    stretch = torch.where(length > CANCELLED * (a + b), wanted / length, 1.0).clamp_min(1) * gamma
    foreach("mul_", new, list(stretch.unbind()))
    return list(new)


@dataclass
class MMPareto(MultiLoss):
    """Pareto integration with the magnitude kept: no encoder is led where one of its two losses would not go.

    L = CE(f, y) + sum_m CE(g_m, y), g_m from a linear head on h_m.  For each encoder, over all its parameters together:
    cos(g_mm, g_u) > 0: w_mm = w_u = 1/2;  else w minimises |w_mm g_mm + w_u g_u| with w_mm + w_u = 1
    per tensor: g = 2 (w_mm g_mm + w_u g_u);  g <- gamma max(1, |g_mm + g_u| / |g|) g

    g_mm is the gradient of the fused loss, g_u of the modality's own; heads and fusion follow the plain sum of losses.
    Gradients of each loss are averaged over workers before anything is decided.
    Deviations: a tensor whose two gradients cancel (to 1e-5 of their lengths: they are opposite, nothing is common) is
    not stretched; in the official code what rounding left of it is.
    """

    name: ClassVar[str] = "mmpareto"
    paper: ClassVar[str] = (
        "Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML 2024"
    )
    cost: ClassVar[str] = "one linear head and one backward pass through its own encoder per modality"

    weight: float = 1.0
    gamma: float = tunable(1.5, low=0.5, high=3.0, source=OFFICIAL)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} > 0", "gamma")

    def backward(self, losses: Losses, ctx: Context) -> None:
        gradients = ctx.gradients(losses)
        place = {id(p): i for i, p in enumerate(ctx.parameters)}
        integrated, weights = _sum(list(gradients.values())), {}
        for m in ctx.model.modalities:
            mine = [place[id(p)] for p in ctx.model.parameters_of(m) if id(p) in place]
            unimodal = [gradients[f"unimodal/{m}"][i] for i in mine]
            fused = _sum([[gs[i] for i in mine] for name, gs in gradients.items() if name != f"unimodal/{m}"])
            weights[m] = pareto_weight(fused, unimodal)
            for i, g in zip(mine, integrate(fused, unimodal, weights[m], self.gamma), strict=True):
                integrated[i] = g
        for p, g in zip(ctx.parameters, integrated, strict=True):
            p.grad = g
        ctx.log("fused_weight", weights)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "where the two losses of an encoder disagree their weights are not free, at any gamma"


def _sum(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    total = [g.clone() for g in gradients[0]]
    for gs in gradients[1:]:
        foreach("add_", total, list(gs))
    return total
