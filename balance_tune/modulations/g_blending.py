"""G-Blending: losses are blended by how well each branch generalises for how much it overfits, measured aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.tunable import tunable

FUSED = "fused"
SMALLEST = 1e-8  # overfitting below this counts as this: a branch that did not overfit at all must not divide by zero
Curve = tuple[float, float]  # mean loss on the training part and on the held-out part


def blending_weights(before: Mapping[str, Curve], after: Mapping[str, Curve]) -> dict[str, float]:
    """Return w_k, adding up to 1, from each branch's (training, held-out) losses before and after its own training.

    G = L_held(before) - L_held(after);  O = (L_held - L_train)(after) - (L_held - L_train)(before);  w_k ~ |G| / O^2
    """
    raw = {}
    for k, (train, monitor) in before.items():
        later_train, later_held = after[k]
        gain, overfit = monitor - later_held, (later_held - later_train) - (monitor - train)
        raw[k] = abs(gain) / max(overfit * overfit, SMALLEST)
    total = sum(raw.values())
    return {k: w / total if total else 1 / len(raw) for k, w in raw.items()}


@dataclass
class GBlending(MultiLoss):
    """Gradient blending: L = w_fused CE(f, y) + sum_m w_m CE(g_m, y), g_m from a linear head on h_m.

    Every super-epoch, for each branch k among the fused one and each modality: a copy of the model is trained aside for
    the super-epoch's length, the other modalities' inputs silenced, and its mean losses on train and monitor are taken
    before and after.  G_k = fall of the monitor loss;  O_k = growth of (monitor - train);  w_k = |G_k| / O_k^2, sum 1.

    `super_epoch=1` is the offline form: once, for the whole run. The extra training is on the trial's clock.
    Deviations: held-out losses come from `monitor`, never from the part that selects; losses are means over samples
    (BalanceBenchmark sums them, so that O follows the size of the parts), and the first measurement is before the
    copy's training (there after its first epoch); O^2 is at least 1e-8. With those two rules of BalanceBenchmark w
    is another by 0.14 to 0.68 in four small runs.
    """

    name: ClassVar[str] = "g_blending"
    paper: ClassVar[str] = "Wang et al., What Makes Training Multi-modal Classification Networks Hard?, CVPR 2020"
    cost: ClassVar[str] = "one linear head per modality; each epoch is trained again once per modality and once fused"
    reads: ClassVar[str] = "copies of the model trained aside (`ctx.fork`)"

    weight: float = 1.0
    super_epoch: float = tunable(
        0.33, choices=(0.1, 0.2, 0.33, 0.5, 1.0), source="GeWu-Lab/BalanceBenchmark: 10 of 30 epochs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 < {} <= 1", "super_epoch")
        self.weights: dict[str, float] = {}

    def every(self, epochs: int) -> int:
        """Return the length of a super-epoch in epochs."""
        return max(1, round(self.super_epoch * epochs))

    def on_epoch_start(self, ctx: Context) -> None:
        if (ctx.epoch - self.epochs_of_window(ctx.epochs).start) % self.every(ctx.epochs) == 0:
            self.weights = self.measure(ctx)
        ctx.log("blend", {m: torch.tensor(self.weights[m]) for m in ctx.model.modalities})
        ctx.log("blend_fused", self.weights[FUSED])

    def measure(self, ctx: Context) -> dict[str, float]:
        """Train each branch aside and return the weights of the super-epoch that begins."""
        epochs = min(self.every(ctx.epochs), ctx.epochs - ctx.epoch)
        before, after = {}, {}
        for k in (FUSED, *ctx.model.modalities):
            present = ctx.model.modalities if k == FUSED else (k,)
            branch = ctx.fork(k)
            before[k] = branch.loss("train", present), branch.loss("monitor", present)
            branch.train(epochs, present)
            after[k] = branch.loss("train", present), branch.loss("monitor", present)
        return blending_weights(before, after)

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        blended = super().on_losses(losses, output, batch, ctx)
        for k, w in self.weights.items():
            name = FUSED if k == FUSED else f"unimodal/{k}"
            blended[name] = w * blended[name]
        return blended

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "the weights are measured, not chosen"

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = dict(state["weights"])
