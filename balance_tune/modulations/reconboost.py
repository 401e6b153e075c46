"""ReconBoost: modalities are trained in turns, each on what the others have left over, then all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features, Sum
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.scores import true_class_probability
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

OFFICIAL = "huacong/ReconBoost, CREMA-D"


class Boosted(Sum):
    """An ensemble of one linear learner per modality: f = rate sum_m f_m, f_m = W_m h_m + b_m, the rate learnt."""

    def __init__(self, widths: Mapping[str, int], classes: int, rate: float) -> None:
        super().__init__(widths, classes)
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, features: Features) -> Tensor:
        return self.rate * super().forward(features)


def boosting_loss(answer: Tensor, others: Tensor, labels: Tensor, w1: float, w2: float) -> Tensor:
    """Return -1/C (w1 - w2 softmax(F)[y]) log softmax(f)[y] per sample (B,), from own and others' logits (B, C)."""
    logp = answer.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
    return -(w1 - w2 * true_class_probability(others, labels)) * logp / answer.shape[1]


@dataclass
class ReconBoost(Modulation):
    """Modality-alternating boosting with reconcilement, then global rectification.

    Phases of `phase` of the run follow each other: modality 1, all, modality 2, all, ..., M, all, 1, all, ...
    modality m: L = mean_i -1/C (w1 - w2 softmax(F_-m)[y]) log softmax(f_m)[y] + alpha MSE(softmax f_m, softmax f_m-1)
    all:        L = CE(rate sum_m f_m, y)
    F_-m = rate sum_{j != m} f_j and the modality before, f_m-1, are fixed; only encoder m and its head move.

    Late fusion is part of the method: the model's fusion becomes one linear head per modality, their sum times a learnt
    rate.
    Deviations: the agreement term has a gradient in f_m (official code: none, both sides are detached); heads are
    linear and each modality's own (official: one small network shared); the very first phase has the same loss as the
    later ones (official: no agreement, a constant for F); the optimiser keeps its state from phase to phase; phases are
    fractions of the run (official: 4 epochs each, for up to 1000 rounds).
    """

    name: ClassVar[str] = "reconboost"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = "Hua et al., ReconBoost: Boosting Can Achieve Modality Reconcilement, ICML 2024"
    cost: ClassVar[str] = "nothing: half of the epochs go backward through one encoder only"
    windowed: ClassVar[bool] = False

    w1: float = tunable(5.0, low=1.0, high=10.0, log=True, source=OFFICIAL)
    w2: float = tunable(1.0, low=0.1, high=5.0, log=True, source=OFFICIAL)
    alpha: float = tunable(0.5, low=0.05, high=5.0, log=True, source=OFFICIAL)
    rate: float = tunable(1.0, low=0.01, high=1.0, log=True, source=f"{OFFICIAL}: where the boost rate starts")
    phase: float = tunable(0.05, choices=(0.03, 0.05, 0.1), source=f"{OFFICIAL}: 4 epochs; here one of twenty")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 < {} <= 1", "phase")
        self.demand("{} >= 0", "w1", "w2", "alpha", "rate")

    def build(self, model: MultimodalModel) -> None:
        model.fusion = Boosted(model.widths, model.classes, self.rate)

    def every(self, epochs: int) -> int:
        """Return the length of a phase in epochs."""
        return max(1, round(self.phase * epochs))

    def turn(self, epoch: int, epochs: int, modalities: int) -> int | None:
        """Return the number of the modality whose turn this epoch is, or None when all are trained."""
        phase = epoch // self.every(epochs)
        return None if phase % 2 else phase // 2 % modalities

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        names = ctx.model.modalities
        turn = self.turn(ctx.epoch, ctx.epochs, len(names))
        fusion = ctx.model.fusion
        assert isinstance(fusion, Boosted)
        ctx.log("rate", fusion.rate.detach().clone())
        if turn is None:
            return losses
        answers = unimodal_answers(output.features, ctx)
        answer, before = answers[names[turn]], answers[names[turn - 1]].detach()
        others = torch.stack([f.detach() for m, f in answers.items() if m != names[turn]]).sum(0)
        boost = boosting_loss(answer, fusion.rate.detach() * others, output.batch.labels, self.w1, self.w2)
        apart = (answer.softmax(1) - before.softmax(1)).square().mean(1)
        return {
            "boosting": ctx.mean(boost, output.batch),
            "agreement": self.alpha * ctx.mean(apart, output.batch),
            **{name: loss for name, loss in losses.items() if name != "fused"},
        }

    def min_epochs(self, epochs: int) -> int:
        """Judged once two modalities had their turn and all were trained after each."""
        return min(4 * self.every(epochs), epochs)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "modalities are trained in turns at every setting"
