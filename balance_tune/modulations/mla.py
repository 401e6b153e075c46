"""MLA: encoders take turns at one shared head, whose updates spare what it learnt from the modality before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features, Fusion
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, EpochPlan
from balance_tune.modulations.context import Context
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


class EntropyFusion(Fusion):
    """One head for all modalities, surer ones weigh more: f = sum_m w_m f_m, f_m = W h_m + b, w = softmax_m(-H(f_m)).

    H is the entropy of softmax(f_m); the weights are exp(H_max - H_m), normalised.
    """

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        if len(set(widths.values())) > 1:
            raise UserError(
                f"mla shares one head, so all modalities must have the same feature width, but got {dict(widths)}; "
                "set `features` of their encoders."
            )
        self.head = nn.Linear(next(iter(widths.values())), classes)

    def forward(self, features: Features) -> Tensor:
        f = torch.stack([self.head(features[m]) for m in self.widths])
        logp = f.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum(-1, keepdim=True)
        return ((-entropy).softmax(0) * f).sum(0)

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        return {m: self.head(features[m]) for m in self.widths}


class Memory(nn.Module):
    """P (d, d), which takes away from an update the directions of features the head has already seen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p: Tensor
        self.register_buffer("p", torch.eye(width))

    def remember(self, r: Tensor, alpha: float, official: bool = False) -> None:
        """Update P with mean features r (d,): k = P r;  P <- P - k k^T / (alpha + r^T k);  P <- P / |P|_F."""
        self.p.copy_(protected(self.p, r.to(self.p.dtype), alpha, official))


def protected(p: Tensor, r: Tensor, alpha: float, official: bool = False) -> Tensor:
    """Return the next P (d, d) after features of mean r (d,); `official` divides by alpha + k r^T elementwise."""
    k = p @ r
    p = p - torch.outer(k, k) / (alpha + (torch.outer(k, r) if official else r @ k))
    unit: Tensor = p / p.norm()
    return unit


@dataclass
class Mla(Modulation):
    """Multimodal learning with alternating unimodal adaptation: a step per modality, one after the other.

    for m in modalities:  L = CE(W h_m + b, y);  grad W <- (grad W) P;  optimiser's step on encoder m and the head
                          r = mean_i h_m,i;  k = P r;  P <- P - k k^T / (alpha_t + r^T k);  P <- P / |P|_F
    alpha_t = alpha^(1 + t/T) in step t of the epoch's T;  P = I at first
    answer: f = sum_m softmax_m(-H(softmax f_m)) f_m

    The model's fusion becomes the shared head with entropy-weighted answers, so all features must have one width. P is
    updated with the modality that was just trained, so that the next one spares it.
    P's norm of 1 alone shrinks the head's rate by 1/sqrt(d): of the head's gradient 1 to 1.6 % is left at d = 512.
    Deviations: the projection runs (official code: a name comparison that never holds keeps it from running:
    `projected=False`, equal to 3e-16 over 24 half-steps). With the name fixed the official code would update P with
    the present modality before it projects that modality's own gradient, all but the very first time, and would divide
    by a matrix where recursive least squares has the scalar r^T k (`official=True`); the weights differ by 4e-3 after
    two steps. At test time its weights are one per batch (a softmax over the batch axis), so that an answer depends on
    its neighbours; here they are per sample. Under torch 1.8, which it asks for, gradients are zero instead of absent,
    and encoders whose turn is over move by momentum and decay.
    """

    name: ClassVar[str] = "mla"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "class probabilities, whose entropy weighs the modalities"
    paper: ClassVar[str] = (
        "Zhang et al., Multimodal Representation Learning by Alternating Unimodal Adaptation, CVPR 2024"
    )
    cost: ClassVar[str] = "an optimiser step per modality, each with a (d, d) matrix product for the head"
    windowed: ClassVar[bool] = False
    composes: ClassVar[bool] = False

    alpha: float = tunable(0.1, low=0.01, high=1.0, log=True, source="official code of MLA")
    projected: bool = tunable(True, choices=(True, False), source="the paper")
    official: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 < {} <= 1", "alpha")
        self._parts = nn.ModuleDict()
        self._first = self._steps = 0

    def build(self, model: MultimodalModel) -> None:
        model.fusion = fusion = EntropyFusion(model.widths, model.classes)
        self._parts = nn.ModuleDict({"memory": Memory(fusion.head.in_features)})

    def modules(self) -> nn.ModuleDict:
        return self._parts

    def plan_epoch(self, plan: EpochPlan, ctx: Context) -> EpochPlan:
        self._first, self._steps = ctx.step, -(-len(plan) // ctx.settings.batch_size)
        return plan

    def train_step(self, batch: Batch, ctx: Context) -> Tensor:
        output = ctx.forward(batch)
        batch, fusion, memory = output.batch, ctx.model.fusion, self._parts["memory"]
        assert isinstance(fusion, EntropyFusion)
        assert isinstance(memory, Memory)
        ctx.hooks.observe(output, batch, ctx)
        alpha = self.alpha ** (1 + (ctx.step - self._first) / self._steps)
        losses: list[Tensor] = []
        fractions = {}
        for m, h in output.features.items():
            with ctx.autocast():
                f = precise(fusion.head(h))
            loss = ctx.loss(f, batch)
            ctx.backward(loss)
            ctx.average_gradients()
            (r,) = ctx.replicas.sum(h.detach().sum(0))
            first = ctx.step == 0 and not losses
            if self.official and not first:
                memory.remember(r / batch.total, alpha, official=True)
            fractions[m] = self._project(fusion.head.weight, memory.p)
            ctx.optimizer_step()
            if not self.official:
                memory.remember(r / batch.total, alpha)
            losses.append(loss.detach())
        ctx.log("kept", fractions)
        return torch.stack(losses).mean()

    def _project(self, weight: Tensor, p: Tensor) -> Tensor:
        """Multiply the head's gradient by P^T; return which fraction of its length is left (0-d)."""
        g = weight.grad
        if g is None or not self.projected:
            return p.new_ones(())
        before = g.norm()
        g.copy_(g @ p.to(g.dtype).T)
        fraction: Tensor = g.norm() / before.clamp_min(1e-30)
        return fraction

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "modalities take turns at one head at every setting"
