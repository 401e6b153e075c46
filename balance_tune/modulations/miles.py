"""MILES: after each epoch, the encoder of the modality that the answer leans on goes on more slowly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.modulations.scores import by_name
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

PAPER = (
    "Guerra-Manzanares and Shamout, MILES: Modality-Informed Learning Rate Scheduler for Balancing Multimodal Learning"
)


def factors(
    fused: Tensor | float, unimodal: Mapping[str, Tensor], threshold: float, factor: float
) -> dict[str, Tensor]:
    """Return each encoder's learning rate factor (0-d) from the accuracies of fused and own answers.

    u_m = (A_f - max_{j != m} A_j) / A_f, how much the answer needs m (0 where A_f is 0). If max u - min u <= threshold,
    or every u is negative, all factors are 1; else `factor` for the largest u and 1 for the others.
    """
    accuracy = torch.stack([torch.as_tensor(a, dtype=torch.float64) for a in unimodal.values()])
    whole = torch.as_tensor(fused, dtype=torch.float64, device=accuracy.device)
    if len(accuracy) == 1:
        return by_name(torch.ones_like(accuracy), unimodal)
    best = accuracy.topk(2).values
    rival = torch.where(accuracy == best[0], torch.where((accuracy == best[0]).sum() > 1, best[0], best[1]), best[0])
    use = torch.where(whole > 0, (whole - rival) / whole.clamp_min(1e-12), 0.0)
    slow = (use.amax() - use.amin() > threshold) & (use >= 0).any() & (use == use.amax())
    return by_name(torch.where(slow, factor, 1.0), unimodal)


@dataclass
class Miles(MultiLoss):
    """Modality-informed learning rates: the encoder whose modality is used most is slowed for an epoch.

    L = CE(f, y) + weight sum_m CE(g_m, y)
    after each epoch, accuracies on `monitor`:  u_m = (A_f - max_{j != m} A_j) / A_f
    if max u - min u > threshold and not all u < 0:  lr of the encoder with the largest u times factor, for one epoch

    The factors return to 1 where nothing is slowed and for the encoder that is not (Algorithm 1, read literally, never
    resets the other rate; the text says that one rate is adjusted per epoch). For more than two modalities a modality
    is compared with the best of the others. Paper's algorithm only: its code could not be had. A re-run by others on
    CREMA-D ends below their joint baseline (61.1 against 61.6).
    Deviation: accuracies are of `monitor`, never of the rows that choose the epoch.
    """

    name: ClassVar[str] = "miles"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "the accuracy of each modality"
    paper: ClassVar[str] = f"{PAPER}, IJCNN 2025"
    cost: ClassVar[str] = "one linear head per modality, and one forward pass over `monitor` per epoch"
    reads: ClassVar[str] = "accuracies on a held-out part (`ctx.encode`)"

    threshold: float = tunable(0.2, low=0.05, high=0.6, source="the paper")
    factor: float = tunable(0.5, low=0.0, high=0.9, source="the paper")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 <= {} <= 1", "threshold", "factor")
        self._factors: dict[str, Tensor] = {}

    def on_epoch_start(self, ctx: Context) -> None:
        if ctx.epoch > self.epochs_of_window(ctx.epochs).start:
            self._factors = factors(*self._accuracies(ctx), self.threshold, self.factor)
            ctx.log("lr", self._factors)

    @torch.no_grad()
    def _accuracies(self, ctx: Context) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the accuracies of the fused and of each modality's own answer on `monitor` (0-d)."""
        features, labels = ctx.encode("monitor")
        ctx.model.eval()
        with ctx.autocast():
            answers = {m: self.heads[m](h) for m, h in features.items()}
            fused = ctx.model.fusion(features)
        ctx.model.train()
        right = [(f.argmax(1) == labels).double().mean() for f in (fused, *answers.values())]
        return right[0], dict(zip(answers, right[1:], strict=True))

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m, factor in self._factors.items():
            ctx.scale_lr(m, factor)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"factor": 1.0, "weight": 0.0})
