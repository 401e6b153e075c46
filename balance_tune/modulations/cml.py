"""CML: an answer from fewer modalities must not be surer than one from more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.answers import fused_answer
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.seeds import generator
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


def official_overconfidence(partial: Tensor, full: Tensor, labels: Tensor) -> Tensor:
    """Return the authors' penalty per sample (B,) from logits (B, C) and labels (B,).

    `overconfidence` where the fuller answer is right; where both are wrong the same with the fuller confidence held
    fixed; 0 where only the partial answer is right.
    """
    right, partly = full.argmax(1) == labels, partial.argmax(1) == labels
    penalty = overconfidence(partial, full.detach())
    return torch.where(right, overconfidence(partial, full), torch.where(partly, 0.0, penalty))


def overconfidence(partial: Tensor, full: Tensor) -> Tensor:
    """Return max(0, conf(partial) - conf(full)) per sample (B,) from logits (B, C); conf is the largest probability."""
    return (partial.softmax(1).amax(1) - full.softmax(1).amax(1)).relu()


@dataclass
class Cml(Modulation):
    """Calibrated multimodal learning: confidence may only fall when a modality is taken away.

    S_0 = all modalities, S_k = S_{k-1} without one more, in random order, down to a single one; f_S = f with the
    features outside S silenced.  conf_S,i = max_c softmax(f_S,i)[c]
    L = 1/M sum_k CE(f_{S_k}, y) + lam sum_{k>0} mean_i max(0, conf_{S_k},i - conf_{S_{k-1}},i)

    For a linear head f_S is f minus the dropped modalities' W_m h_m, bias kept. The penalty is per sample, as in the
    paper (BalanceBenchmark takes the positive part of the batch's sum).
    The authors' code belongs to another model; its penalty counts samples whose fuller answer is right, and those where
    both are wrong with the fuller confidence held fixed (`official=True`; on random logits .071 against .078 here).
    Deviations: the order is drawn once per step, the same for all samples (the paper takes any pair of subsets).
    """

    name: ClassVar[str] = "cml"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = "Ma et al., Calibrating Multimodal Learning, ICML 2023"
    cost: ClassVar[str] = "one more pass through the fusion head per modality but one"

    lam: float = tunable(0.1, low=0.01, high=10.0, log=True, source="GeWu-Lab/BalanceBenchmark")

    official: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "lam")

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        features, before = dict(output.features), output.logits
        order = torch.randperm(len(features), generator=generator("cpu", ctx.seed, "cml", ctx.step)).tolist()
        partial, penalty = [], []
        for i in order[:-1]:
            m = ctx.model.modalities[i]
            features[m] = torch.zeros_like(features[m])
            f = fused_answer(features, ctx)
            partial.append(ctx.loss(f, output.batch))
            excess = (
                official_overconfidence(f, before, output.batch.labels) if self.official else overconfidence(f, before)
            )
            penalty.append(ctx.mean(excess, output.batch))
            before = f
        penalties = torch.stack(penalty).sum()
        (total,) = ctx.replicas.sum(penalties)
        ctx.log("overconfidence", total / ctx.replicas.world)
        share = 1 / len(features)
        return {
            **losses,
            "fused": share * losses["fused"],
            "partial": share * torch.stack(partial).sum(),
            "overconfidence": self.lam * penalties,
        }

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "the losses of the partial answers stay at every lam"
