"""MSLR: each encoder has a learning rate of its own, which follows its modality's accuracy on held-out data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

MLB_CONFIGS = "kkontras/MLB configs: multipliers 0.9 and 1.1, memory of 5 epochs"


def initial_multipliers(modalities: Sequence[str], ratio: float) -> dict[str, float]:
    """Return lr0_m, with mean 1, falling (or rising) geometrically from the first modality to the last by `ratio`.

    For two modalities lr0_a / lr0_v = ratio and lr0_a + lr0_v = 2, as all official pairs (0.9 and 1.1, 0.7 and 1.3).
    """
    steps = max(len(modalities) - 1, 1)
    weights = [ratio ** (1 - i / steps) for i in range(len(modalities))]
    return {m: w * len(weights) / sum(weights) for m, w in zip(modalities, weights, strict=True)}


def learning_rate_ratios(history: Sequence[Mapping[str, Tensor]], memory: int) -> dict[str, Tensor]:
    """Return r_m = acc_m / mean(the `memory` accuracies before it); 1 while there are fewer, or where their mean is 0.

    `history` holds each epoch's accuracies {modality: 0-d tensor}, the newest last.
    """
    *earlier, newest = history
    if len(earlier) < memory:
        return {m: torch.ones_like(acc) for m, acc in newest.items()}
    ratios = {}
    for m, acc in newest.items():
        mean = torch.stack([past[m] for past in earlier[-memory:]]).mean()
        ratios[m] = torch.where(mean > 0, acc / mean, torch.ones_like(acc))
    return ratios


@dataclass
class Mslr(Modulation):
    """Modality-specific learning rates: an encoder whose modality keeps getting better goes on faster.

    before epoch e:  r_m = acc_m(e-1) / mean(acc_m(e-1-K .. e-2)) once there are K earlier accuracies, else 1
    lr_m = lr lr0_m r_m for every parameter of encoder m

    acc_m is the accuracy of the modality's own logits f_m on `monitor`, never on the validation part that selects.
    Deviations: a true learning rate in place of a factor on the gradient (`apply_to="grad"`). They are the same under
    SGD without momentum and weight decay; with decay 1e-4 the weights differ by 5e-7 after a step, with momentum 0.9 by
    1e-2 at the first change of a ratio, under Adam by 6e-3 at once, where the factor largely cancels. The multipliers
    are given by their ratio, with mean 1 (for more than two modalities a geometric ladder from the first to the last);
    a mean of 0 counts as no change.
    """

    name: ClassVar[str] = "mslr"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "the accuracy of each modality"
    paper: ClassVar[str] = (
        "Yao and Mihalcea, Modality-specific Learning Rates for Effective Multimodal Additive Late-fusion, ACL 2022"
    )
    cost: ClassVar[str] = "one forward pass over `monitor` per epoch"
    reads: ClassVar[str] = "accuracies on a held-out part (`ctx.encode`)"

    ratio: float = tunable(0.9 / 1.1, low=0.3, high=3.0, log=True, source=MLB_CONFIGS)
    memory: int = tunable(5, low=3, high=20, source=MLB_CONFIGS)
    apply_to: Literal["lr", "grad"] = "lr"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} > 0", "ratio")
        self.demand("{} >= 1", "memory")
        self._history: list[dict[str, Tensor]] = []
        self._multipliers: dict[str, Tensor] = {}

    def on_epoch_start(self, ctx: Context) -> None:
        lr0 = initial_multipliers(ctx.model.modalities, self.ratio)
        if ctx.epoch > 0:
            self._history = [*self._history[-self.memory :], self._accuracies(ctx)]
            r = learning_rate_ratios(self._history, self.memory)
        else:
            r = {m: torch.ones((), dtype=torch.float64, device=ctx.device) for m in lr0}
        self._multipliers = {m: lr0[m] * r[m] for m in lr0}
        ctx.log("lr", self._multipliers)

    @torch.no_grad()
    def _accuracies(self, ctx: Context) -> dict[str, Tensor]:
        """Return each modality's accuracy on `monitor` (0-d); the same on every worker."""
        features, labels = ctx.encode("monitor")
        ctx.model.eval()
        logits = ctx.model.fusion.unimodal_logits(features)
        ctx.model.train()
        return {m: (f.argmax(1) == labels).double().mean() for m, f in logits.items()}

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m, factor in self._multipliers.items():
            if self.apply_to == "lr":
                ctx.scale_lr(m, factor, "encoder")
            else:
                scale(ctx.model.gradients(m, "encoder"), factor)

    def _first_ratio(self, epochs: int) -> int | None:
        """Return the first 0-based epoch whose ratio can differ from 1, or None in a run too short for one."""
        first = max(self.epochs_of_window(epochs).start, 1) + self.memory
        return first if self.acts(first, epochs) else None

    def never_acts(self, epochs: int) -> str | None:
        reason = super().never_acts(epochs)
        if reason is None and self.ratio == 1 and self._first_ratio(epochs) is None:
            return f"its multipliers are 1, and {epochs} epochs are too few for a memory of {self.memory}"
        return reason

    def min_epochs(self, epochs: int) -> int:
        first = self._first_ratio(epochs)
        return 0 if first is None else first + 1

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"ratio": 1.0, "memory": 1_000_000})

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._history = list(state["history"])
