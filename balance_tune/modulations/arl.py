"""ARL: a modality's share of the optimisation follows the certainty of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.scores import by_name
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

PAPER = "the paper, for AVE, Kinetics-Sounds, MOSI and UCF101; 8 for CREMA-D"
LEAST = 0.3  # of an entropy's share


def coefficients(logits: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Return k_m (0-d), adding up to 1, from each modality's answers {modality: (B, C)}.

    d_m = sum_c mean_i |f_m,i,c|, as a share of all;  H_m = mean entropy of softmax(f_m), as a share, at least 0.3
    q_m = (1 / H_m) / sum_j (1 / H_j);  k = softmax_m(temperature q_m (1 - d_m))
    """
    return by_name(_coefficients(_sums(logits), temperature), logits)


def _sums(logits: Mapping[str, Tensor]) -> Tensor:
    """Return (2, M), sums over the batch: of the absolute logits, and of the entropies."""
    f = torch.stack([x.detach() for x in logits.values()])
    p = f.softmax(-1)
    return torch.stack([f.abs().sum((1, 2)), -(p * (p + 1e-16).log()).sum((1, 2))])


def _coefficients(sums: Tensor, temperature: float) -> Tensor:
    dependence, entropy = sums / sums.sum(1, keepdim=True).clamp_min(1e-12)
    certainty = 1 / entropy.clamp_min(LEAST)
    q = certainty / certainty.sum()
    k: Tensor = (temperature * q * (1 - dependence)).softmax(0)
    return k


@dataclass
class Arl(Modulation):
    """Asymmetric representation learning: encoders' gradients times 1 + k_m, k by certainty over dependence.

    L = CE(f, y) + gamma sum_m CE(F_m(h_m), y);  F_m: the fusion's answer to modality m alone, with gradient to both
    d_m = sum_c mean_i |f_m,i,c| and H_m = mean_i entropy(softmax f_m,i) as shares of all modalities', H_m at least 0.3
    q_m = (1 / H_m) / sum_j (1 / H_j);  k = softmax_m(T q_m (1 - d_m)), held fixed
    grad_m <- (1 + k_m) grad_m, for every parameter of encoder m

    Until `warmup` is over gamma is 1 and nothing is scaled. F_m as in `dgl`. For two modalities 1 - d_m is the other's
    d, as in the official code; from four on the least share of 0.3 binds for modalities that are alike. gamma
    multiplies the encoders' rate by about 1.5 (1 + gamma): search the learning rate down, or clip.
    `coefficients="published"`: k_m = 1/M in all steps. This is what the official code (shicaiwei123/ICCV2025-ARL) does
    once it runs: it computes k and never uses it; besides, an exception stands in its only branch and its backward pass
    fails under present torch. Here k is of the step's own batch (assigned, the code's would lag by one). It clips the
    norm of all gradients to 40 (here `training.clip_norm`). Re-runs by others on CREMA-D: 62.9 and 63.3 where the paper
    has 76.6.
    """

    name: ClassVar[str] = "arl"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "class probabilities, whose entropy it takes"
    paper: ClassVar[str] = "Wei et al., Improving Multimodal Learning via Imbalanced Learning, ICCV 2025"
    cost: ClassVar[str] = "the fusion's answer to each modality alone, in the forward and the backward pass"

    gamma: float = tunable(4.0, low=0.5, high=10.0, log=True, source="the paper")
    temperature: float = tunable(4.0, low=0.5, high=16.0, log=True, source=PAPER)
    warmup: float = tunable(0.05, choices=(0.0, 0.05, 0.1), source="official code: epochs 0 to 5 of 100")
    coefficients: Literal["intended", "published"] = "intended"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "gamma", "temperature")
        self.demand("0 <= {} <= 1", "warmup")
        self._k: dict[str, Tensor] = {}

    def first(self, epochs: int) -> int:
        """Return the first 0-based epoch after the warm-up."""
        return min(int(self.warmup * epochs + 1e-9) + 1, epochs - 1) if self.warmup else 0

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        warm = ctx.epoch < self.first(ctx.epochs)
        with ctx.autocast():
            answers = {m: precise(f) for m, f in ctx.model.fusion.answers_alone(output.full_features).items()}
        self._k = {} if warm else self._shares(answers, ctx)
        gamma = 1.0 if warm else self.gamma
        return {**losses, **{f"alone/{m}": gamma * ctx.loss(f, output.batch) for m, f in answers.items()}}

    @torch.no_grad()
    def _shares(self, answers: Mapping[str, Tensor], ctx: Context) -> dict[str, Tensor]:
        (sums,) = ctx.replicas.sum(_sums(answers))
        k = _coefficients(sums, self.temperature)
        k = torch.full_like(k, 1 / len(k)) if self.coefficients == "published" else k
        ctx.log("k", k)
        return by_name(k, answers)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m, k in self._k.items():
            scale(ctx.model.gradients(m), 1 + k)

    def min_epochs(self, epochs: int) -> int:
        return min(self.first(epochs) + 1, epochs)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "gradients are multiplied by at least 1, and the losses of single modalities are part of its warm-up"
