"""Modality-level valuation: part of the samples is visited again with the modality that contributes less, alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import EpochPlan
from balance_tune.modulations.context import Context
from balance_tune.modulations.sample_valuation import OFFICIAL
from balance_tune.modulations.valuation import Silence, correctness, resampled, shapley
from balance_tune.seeds import generator
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


def resampling_ratios(contribution: Tensor, alpha: float) -> Tensor:
    """Return p (M,) = 2/3 alpha max(0, mean_{j != m} c_j - c_m) from the modalities' mean contributions c (M,)."""
    others = (contribution.sum() - contribution) / (len(contribution) - 1)
    return 2 / 3 * alpha * (others - contribution).clamp_min(0)


@dataclass
class ModalityValuation(Modulation):
    """Coarse valuation: the modality that contributes less on average is trained alone on part of the data.

    Before each epoch, on a random `part` of the training samples: v(S) = |S| if the answer from modalities S is right
    c_m = mean_i phi_m,i, phi the Shapley value of modality m in v for sample i
    p_m = 2/3 alpha max(0, mean_{j != m} c_j - c_m);  int(p_m N) random samples are added with modality m alone

    For two modalities p is 2/3 alpha |c_1 - c_2| of the weaker one. An epoch has more steps for it; they are on the
    trial's clock. Absent modalities' inputs are zero, in valuation and in training.
    The official code silences features (`silence="features"`), the same for encoders whose answer to zeros is zeros.
    With BatchNorm silenced inputs enter its statistics and the weights differ by 6e-2 from the first such step; on
    AV-Digits accuracies do not (99.0 +- .3 here, 98.6 +- .4 with features).
    Deviations: the samples of the part differ from each other (official: drawn with replacement, as the added ones are,
    so that the standard error of c is 12 % larger at `part` 0.2); the mean of the others' contributions for more than
    two modalities is ours; warm-up is a fraction of the run (official: 5 of 60 epochs).
    """

    name: ClassVar[str] = "modality_valuation"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "answers that are right or wrong"
    paper: ClassVar[str] = "Wei et al., Enhancing Multimodal Cooperation via Sample-level Modality Valuation, CVPR 2024"
    cost: ClassVar[str] = "once an epoch a forward pass over `part` of the training samples; steps for the added ones"

    alpha: float = tunable(1.0, low=0.1, high=3.0, log=True, source=OFFICIAL)
    part: float = tunable(0.2, low=0.1, high=1.0, source=OFFICIAL)
    start: float = tunable(0.08, choices=(0.0, 0.04, 0.08, 0.16), source=f"{OFFICIAL}: after 5 of 60 epochs")

    silence: Silence = "inputs"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "alpha")
        self.demand("0 < {} <= 1", "part")

    def plan_epoch(self, plan: EpochPlan, ctx: Context) -> EpochPlan:
        total = ctx.size("train")
        draw = generator("cpu", ctx.seed, self.name, "part", ctx.epoch)
        rows = torch.randperm(total, generator=draw)[: max(1, int(self.part * total))].to(ctx.device)
        contribution = shapley(correctness(ctx, rows, self.silence)).mean(1)
        ratios = resampling_ratios(contribution, self.alpha)
        ctx.log("contribution", contribution)
        ctx.log("added", ratios)
        counts = [int(p * total + 1e-9) for p in ratios.tolist()]  # one synchronisation an epoch: they set its length
        extra = [torch.randint(total, (n,), generator=draw).to(ctx.device) for n in counts]
        return resampled(plan, extra, ctx, self.name, self.silence)

    def min_epochs(self, epochs: int) -> int:
        return min(self.epochs_of_window(epochs).start + 1, epochs)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"alpha": 0.0})
