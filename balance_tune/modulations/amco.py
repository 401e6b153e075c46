"""AMCo: a modality that dominates the answer loses class logits to a mask that grows with training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features, Fusion
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import precise, unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

BENCHMARK = "GeWu-Lab/BalanceBenchmark"


class Mixed(Fusion):
    """Another fusion's logits z through a linear layer of C x C: f = A z + c. Unimodal logits stay the other's."""

    def __init__(self, inner: Fusion) -> None:
        super().__init__(inner.widths, inner.classes)
        self.inner, self.masks = inner, inner.masks
        self.mix = nn.Linear(inner.classes, inner.classes)

    def forward(self, features: Features) -> Tensor:
        out: Tensor = self.mix(self.inner(features))
        return out

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        return self.inner.unimodal_logits(features)

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return self.inner.slices()

    def own_biases(self) -> dict[str, list[Tensor]]:
        return self.inner.own_biases()


def mask_ratio(progress: float, eps: float) -> float:
    """Return p_t = sin(pi/2 min(eps, l_t) / eps) in [0, 1] at progress l_t, a fraction of the run."""
    return math.sin(math.pi / 2 * min(eps, progress) / eps)


def shares(logits: Mapping[str, Tensor]) -> Tensor:
    """Return (B, M), each modality's part of softmax over all modalities' class logits {modality: (B, C)} together."""
    together = torch.stack([f.detach() for f in logits.values()], dim=1)
    return together.flatten(1).softmax(1).view(together.shape).sum(2)


@dataclass
class Amco(Modulation):
    """Adaptive mask co-optimisation: makes a modality that the answer depends on harder, and trains each one alone too.

    f = A z + c,  z = fusion(h) + sum_m d_m (k - 1) f_m;  L = CE(f, y) + sum_m CE(f_m, y)
    d_m = 1 if mean_i of m's share of softmax([f_1,i, ..., f_M,i]) > sigma, else 0
    k (C,) has int(p_t C) zeros, p_t = sin(pi/2 min(eps, l_t) / eps), else ones

    A, c is an extra layer in the model. For linear heads z is the sum of the masked f_m; the f_m in the losses and in
    the shares are not masked. The mask is drawn once per step, l_t is the epoch as a fraction of the run: from eps on
    a modality above sigma is masked altogether.
    Deviations: l_t (BalanceBenchmark: epoch/10 added at every batch, zero again each epoch); dependence is decided on
    the step's own batch (there: on the batch before, for one modality at most, and it stays until the epoch ends);
    losses and shares of the f_m are of unmasked ones (there: of masked logits, in one version of masked features;
    weights differ by 4e-3 at the first masked step); other fusions than linear ones have k - 1 times f_m added.
    BalanceBenchmark's code does not run, and no other is public, so there is no option for it.
    """

    name: ClassVar[str] = "amco"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "class probabilities to mask"
    paper: ClassVar[str] = "Zhou et al., Adaptive Mask Co-optimization for Modal Dependence, ICASSP 2023"
    cost: ClassVar[str] = "unimodal answers of the fusion head and a second pass through it"
    windowed: ClassVar[bool] = False

    sigma: float = tunable(0.5, low=0.35, high=0.9, source=BENCHMARK)
    eps: float = tunable(0.3, low=0.1, high=1.0, source=BENCHMARK)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 < {} <= 1", "eps")
        self.answers: dict[str, Tensor] = {}

    def build(self, model: MultimodalModel) -> None:
        model.fusion = Mixed(model.fusion)

    def forward(self, batch: Batch, ctx: Context) -> Output:
        output = ctx.forward(batch)
        self.answers = unimodal_answers(output.features, ctx)
        (total,) = ctx.replicas.sum(shares(self.answers).sum(0))
        share = total / batch.total
        dependent = (share > self.sigma).to(share.dtype)
        ctx.log("share", share)
        ctx.log("dependent", dependent)
        return self.masked(output, dependent, ctx)

    def masked(self, output: Output, dependent: Tensor, ctx: Context) -> Output:
        """Return the output with logits A z + c in which the class logits of dependent modalities (M,) are masked."""
        classes = ctx.model.classes
        zeros = int(mask_ratio(ctx.epoch / ctx.epochs, self.eps) * classes)
        if not zeros:
            return output
        order = torch.randperm(classes, generator=ctx.shared_generator("amco"), device=dependent.device)
        mask = (order < zeros).to(dependent.dtype)
        fusion = ctx.model.fusion
        assert isinstance(fusion, Mixed)
        with ctx.autocast():
            z = fusion.inner(output.features)
            share = fusion.inner.share
            terms = [d * mask * share * f for d, f in zip(dependent.unbind(), self.answers.values(), strict=True)]
            return replace(output, logits=precise(fusion.mix(z - torch.stack(terms).sum(0))))

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        return {**losses, **{f"unimodal/{m}": ctx.loss(f, batch) for m, f in self.answers.items()}}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "its extra layer and the losses of single modalities stay at every setting"
