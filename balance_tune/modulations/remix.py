"""Data Remixing: every sample is trained with the modality that is least certain of it, in batches of one modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

CODE = "MatthewMaxy/Remix_ICML2025"


def assignment(logits: Mapping[str, Tensor]) -> Tensor:
    """Return (B,) long: of each sample the modality (its number in the order given) whose answer is least certain.

    The least KL(softmax || uniform) = log C - entropy; of several equal ones the last.

    Args:
        logits: {modality: (B, C)}.
    """
    logp = torch.stack([f.log_softmax(1) for f in logits.values()])
    certainty = (logp.exp() * logp).sum(2)
    return len(certainty) - 1 - certainty.flip(0).argmin(0)


@dataclass
class Remix(MultiLoss):
    """Data remixing: after a warm-up, samples are divided among the modalities, and batches hold one modality each.

    warm-up: L = CE(f, y) + weight sum_m CE(g_m, y)
    then, before each epoch: m(i) = argmin_m KL(softmax g_m,i || uniform), in evaluation mode without augmentation
    sample i is trained with modality m(i), features of the others are zero: L = CE(f, y) + gamma CE(g_m(i), y)

    An epoch has first all batches of the last modality's samples, then those of the one before, and so on; rows are
    shuffled within. Silenced encoders still see their inputs (BatchNorm), and have gradients of zero: momentum and
    weight decay go on. The number of rows is unchanged, of steps up to M - 1 more.
    Official code: two modalities, six classes written in, subsets passed through two files of fixed names, best epoch
    on test rows. More modalities are ours. Without a warm-up the division is the untrained heads'.
    Deviation: the warm-up is a fraction of the run (official: 10 of 60 epochs).
    """

    name: ClassVar[str] = "remix"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "class probabilities, whose entropy divides the samples"
    paper: ClassVar[str] = (
        "Ma et al., Improving Multimodal Learning Balance and Sufficiency through Data Remixing, ICML 2025"
    )
    cost: ClassVar[str] = "one linear head per modality, and once an epoch a forward pass over the training part"

    weight: float = tunable(0.5, low=0.1, high=2.0, log=True, source=CODE)
    gamma: float = tunable(1.0, low=0.1, high=4.0, log=True, source=CODE)
    warmup: float = tunable(0.16, choices=(0.08, 0.16, 0.33), source=f"{CODE}: 10 of 60 epochs")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "gamma")
        self.demand("0 <= {} <= 1", "warmup")

    def first(self, epochs: int) -> int:
        """Return the first 0-based epoch whose samples are divided."""
        return min(round(self.warmup * epochs), epochs - 1)

    def plan_epoch(self, plan: EpochPlan, ctx: Context) -> EpochPlan:
        if ctx.epoch < self.first(ctx.epochs):
            return plan
        modality = self._divide(ctx)[plan.order]
        places = torch.sort(modality, stable=True, descending=True).indices
        modality = modality[places]
        modalities = len(ctx.model.modalities)
        present = F.one_hot(modality, modalities).bool()
        counts = torch.bincount(modality, minlength=modalities).tolist()
        ctx.log("samples", torch.tensor([count / len(modality) for count in counts]))
        groups = tuple((k, counts[k]) for k in reversed(range(modalities)))
        return replace(plan, order=plan.order[places], present=present, silence="features", groups=groups)

    @torch.no_grad()
    def _divide(self, ctx: Context) -> Tensor:
        """Return (N,) long, the modality of each training sample; the same on every worker."""
        features, _ = ctx.encode("train")
        with ctx.autocast():
            return assignment({m: precise(self.heads[m](h)) for m, h in features.items()})

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        if batch.group is None:
            return super().on_losses(losses, output, batch, ctx)
        m = ctx.model.modalities[batch.group]
        with ctx.autocast():
            answer = precise(self.heads[m](output.full_features[m]))
        return {**losses, f"unimodal/{m}": self.gamma * ctx.loss(answer, output.batch)}

    def min_epochs(self, epochs: int) -> int:
        return min(self.first(epochs) + 1, epochs)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "samples are divided among the modalities at every setting"
