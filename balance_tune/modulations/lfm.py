"""LFM: how much modalities must agree in their answers is learnt, epoch by epoch, on held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.divergence import jensen_shannon, reverse_divergence
from balance_tune.modulations.held_out import held_out
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

LOW, HIGH = 0.05, 0.95  # the official bounds of a1
OFFICIAL = "njustkmg/NeurIPS24-LFM"
FITTED = (7.95376296e-01, -3.35472727e-03, -1.22989557e-04, 2.92947416e-06, -2.23835486e-08, 5.39717505e-11)
RUN = 200  # epochs of the run to which the curve was fitted


def fitted_alignment(epoch: int, epochs: int) -> float:
    """Return a_1 of the official code's fitted curve (.795 at first, .46 half-way, .08 at the end), stretched."""
    at = RUN * epoch / epochs
    return sum(c * at**i for i, c in enumerate(FITTED))


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
    `balance="fitted"`: a_1 follows the curve that the official code's main script uses, with nothing learnt.
    Where it starts differs: BalanceBenchmark at alignment 0.05, the official code at 0.95 (`a1=0.95`). The difference
    is large: on AV-Digits 95.2 % from 0.05, 47 % from 0.95, since 20 epochs do not move it.
    `official=True` is the official code's form: KL(m || p) in place of JS, and the Hessian's product over the first
    tensor alone. Deviations: in evaluation mode; `halving` is a fraction of the run (official: every 20 of 200 epochs;
    here 40).
    """

    name: ClassVar[str] = "lfm"
    twice: ClassVar[bool] = True
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = (
        "Yang et al., Facilitating Multimodal Classification via Dynamically Learning Modality Gap, NeurIPS 2024"
    )
    cost: ClassVar[str] = "unimodal answers of the fusion head; once an epoch three passes over one held-out batch"

    lr_a: float = tunable(1e-4, low=1e-4, high=1e3, log=True, source=OFFICIAL)
    a1: float = tunable(LOW, low=LOW, high=HIGH, source="GeWu-Lab/BalanceBenchmark: where it starts")
    halving: float = 0.2
    balance: Literal["learnt", "fitted"] = "learnt"
    official: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LOW <= self.a1 <= HIGH:
            raise UserError(f"`{LOW} <= a1 <= {HIGH}` must hold for lfm, but got {self.a1!r}.")
        self.demand("0 < {} <= 1", "halving")
        self.alignment = self.a1

    def beyond_step(self) -> str:
        return (
            'derivatives on a held-out part (`ctx.take`; none with `balance="fitted"`)'
            if self.balance == "learnt"
            else super().beyond_step()
        )

    def on_epoch_start(self, ctx: Context) -> None:
        if self.balance == "fitted":
            self.alignment = fitted_alignment(ctx.epoch, ctx.epochs)
            ctx.log("a1", self.alignment)
            return
        slope = self.slope(ctx)
        rate = self.lr_a * 0.5 ** (ctx.epoch // max(1, round(self.halving * ctx.epochs)))
        self.alignment = min(HIGH, max(LOW, self.alignment - rate * slope))
        ctx.log("a1", self.alignment)

    def slope(self, ctx: Context) -> float:
        """Return mean(H grad CE) on a held-out batch; one synchronisation an epoch."""
        was_training = ctx.model.training
        ctx.model.eval()
        output = ctx.forward(held_out(ctx, "lfm", ctx.epoch), present=ctx.model.modalities)
        classification = ctx.loss(output.logits, output.batch)
        apart = self.disagreement(output.features, output.batch, ctx)
        total = (1 - self.alignment) * classification + self.alignment * apart
        # The graph is kept for the second derivative, the direction itself is a constant in it.
        direction = [g.detach() for g in ctx.gradients({"ce": classification}, create_graph=True)["ce"]]
        count = 1 if self.official else len(direction)
        products = ctx.replicas.average(hessian_times_gradient(total, direction[:count], ctx.parameters[:count]))
        ctx.model.train(was_training)
        return float(torch.cat([h.reshape(-1) for h in products]).mean())

    def disagreement(self, features: Features, batch: Batch, ctx: Context) -> Tensor:
        """Return the mean over pairs and samples of JS, 0-d."""
        pairs = combinations(unimodal_answers(features, ctx).values(), 2)
        distance = reverse_divergence if self.official else jensen_shannon
        return ctx.mean(torch.stack([distance(a, b) for a, b in pairs]).mean(0), batch)

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
