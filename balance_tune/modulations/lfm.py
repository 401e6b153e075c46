"""LFM: how much modalities must agree in their answers is learnt, epoch by epoch, on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.seeds import generator
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

LOW, HIGH = 0.05, 0.95  # the official bounds of a1
OFFICIAL = "official code of LFM"


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Return JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q) / 2, per sample (B,), from two logits (B, C)."""
    p, q = one.log_softmax(1), other.log_softmax(1)
    m = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - m) + q.exp() * (q - m)).sum(1)


def hessian_times_gradient(
    total: Tensor, direction: Sequence[Tensor], parameters: Sequence[nn.Parameter]
) -> list[Tensor]:
    """Return H v, exact, H the Hessian of `total` in all parameters; zero for a parameter the loss does not use."""
    first = torch.autograd.grad(total, parameters, create_graph=True, allow_unused=True)
    along = [(g * v).sum() for g, v in zip(first, direction, strict=True) if g is not None]
    second = torch.autograd.grad(torch.stack(along).sum(), parameters, allow_unused=True)
    return [torch.zeros_like(p) if h is None else h for p, h in zip(parameters, second, strict=True)]


@dataclass
class Lfm(Modulation):
    """Dynamically learnt modality gap: a classification and an alignment loss whose balance is learnt.

    L = 2 ( a_0 CE(f, y) + a_1 mean over pairs (a, b) of mean_i JS(softmax f_a,i, softmax f_b,i) ),  a_0 + a_1 = 1
    before each epoch, on a held-out batch:  a_1 <- clip( a_1 - lr mean( H grad CE ), 0.05, 0.95 )
    H = Hessian of a_0 CE + a_1 JS in all parameters; the mean is over all their elements; lr halves every `halving`

    f_m are the fusion's unimodal logits. Held-out samples come from `monitor`, as many as a training batch, drawn anew
    each epoch. A mean over all elements is small (about 1e-3 for a few hundred, less for more): at the official rate
    a_1 hardly leaves its start.
    Deviations: JS is the Jensen-Shannon divergence (official code and BalanceBenchmark: the reverse, KL(m || p)); the
    Hessian's product is exact over all parameters (there: of the first tensor alone, the mean over it), in evaluation
    mode; `halving` is a fraction of the run (official: every 20 epochs).
    """

    name: ClassVar[str] = "lfm"
    twice: ClassVar[bool] = True
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = (
        "Yang et al., Facilitating Multimodal Classification via Dynamically Learning Modality Gap, NeurIPS 2024"
    )
    cost: ClassVar[str] = "unimodal answers of the fusion head; once an epoch three passes over one held-out batch"

    lr_a: float = tunable(1e-4, low=1e-4, high=1e3, log=True, source=OFFICIAL)
    a1: float = tunable(LOW, low=LOW, high=HIGH, source=f"{OFFICIAL}: where it starts")
    halving: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LOW <= self.a1 <= HIGH:
            raise UserError(f"`{LOW} <= a1 <= {HIGH}` must hold for lfm, but got {self.a1!r}.")
        if not 0 < self.halving <= 1:
            raise UserError(f"`0 < halving <= 1` must hold for lfm, but got {self.halving!r}.")
        self.alignment = self.a1

    def on_epoch_start(self, ctx: Context) -> None:
        slope = self.slope(ctx)
        rate = self.lr_a * 0.5 ** (ctx.epoch // max(1, round(self.halving * ctx.epochs)))
        self.alignment = min(HIGH, max(LOW, self.alignment - rate * slope))
        ctx.log("a1", self.alignment)

    def slope(self, ctx: Context) -> float:
        """Return mean(H grad CE) on a held-out batch; one synchronisation an epoch."""
        was_training = ctx.model.training
        ctx.model.eval()
        output = ctx.forward(self.held_out(ctx), present=ctx.model.modalities)
        classification = ctx.loss(output.logits, output.batch)
        apart = self.disagreement(output.features, output.batch, ctx)
        total = (1 - self.alignment) * classification + self.alignment * apart
        # The graph is kept for the second derivative, the direction itself is a constant in it.
        direction = [g.detach() for g in ctx.gradients({"ce": classification}, create_graph=True)["ce"]]
        products = ctx.replicas.average(hessian_times_gradient(total, direction, ctx.parameters))
        ctx.model.train(was_training)
        return float(torch.cat([h.reshape(-1) for h in products]).mean())

    def held_out(self, ctx: Context) -> Batch:
        """Return this worker's share of as many random monitor samples as a training batch has."""
        rows = torch.randperm(ctx.size("monitor"), generator=generator("cpu", ctx.seed, "lfm", ctx.epoch))
        rows = rows[: ctx.settings.batch_size].to(ctx.device)
        mine = slice(ctx.replicas.rank, None, ctx.replicas.world)
        position = torch.arange(len(rows), device=ctx.device)
        return ctx.take("monitor", rows[mine], None, position[mine], len(rows))

    def disagreement(self, features: Features, batch: Batch, ctx: Context) -> Tensor:
        """Return the mean over pairs and samples of JS, 0-d."""
        pairs = combinations(unimodal_answers(features, ctx).values(), 2)
        return ctx.mean(torch.stack([jensen_shannon(a, b) for a, b in pairs]).mean(0), batch)

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        apart = self.disagreement(output.features, output.batch, ctx)
        return {
            **losses,
            "fused": 2 * (1 - self.alignment) * losses["fused"],
            "alignment": 2 * self.alignment * apart,
        }

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "alignment weighs at least 0.05, as in the official code"

    def state_dict(self) -> dict[str, Any]:
        return {"alignment": self.alignment}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.alignment = state["alignment"]
