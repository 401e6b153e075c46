"""Diagnosing & Re-learning: an encoder that is well learnt (or overfitted) is softly set back to its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.context import Context
from balance_tune.modulations.separability import kmeans, minmax, purity
from balance_tune.seeds import derive
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

OFFICIAL = "GeWu-Lab/Diagnosing_Relearning_ECCV2024, CREMA-D"


def reinit_weight(train_purity: Tensor, monitor_purity: Tensor, lam: float) -> Tensor:
    """Return w = tanh(lam |P_train - P_monitor|) in [0, 1), 0-d: how far an encoder goes back to its beginning."""
    return torch.tanh(lam * (torch.as_tensor(train_purity) - torch.as_tensor(monitor_purity)).abs())


@dataclass
class Relearning(Modulation):
    """Diagnosing & Re-learning: each encoder goes back towards its initial weights, the further the more it overfits.

    At the end of every `interval`, at most `count` times, for each modality by itself:
    features of train and monitor in evaluation mode, scaled to [-1, 1] per dimension on each split;
    k-means with one cluster per class, P = purity;  w_m = tanh(lam |P_train,m - P_monitor,m|)
    theta_m <- w_m theta_m,init + (1 - w_m) theta_m   for every encoder parameter

    Running statistics of BatchNorm, the fusion head, momentum and learning rate stay. The held-out part is `monitor`,
    never the validation part that selects.
    Deviations: `n_init` starts of k-means (one start makes w noise: 0.06 to 0.42 by the seed alone on one data set;
    with the same clusters all is the official code's); the interval is a fraction of the run (official: epochs 20, 40,
    60 of 90); no event in the last epoch, which no training would follow; the learning rate follows the recipe
    (official: constant).
    """

    name: ClassVar[str] = "relearning"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "classes, into which features are to fall"
    paper: ClassVar[str] = "Wei et al., Diagnosing and Re-learning for Balanced Multimodal Learning, ECCV 2024"
    cost: ClassVar[str] = (
        "at most `count` times in a run, a forward pass over train and monitor and k-means of their features"
    )
    reads: ClassVar[str] = "features of a training and a held-out part (`ctx.encode`)"

    lam: float = tunable(3.0, low=0.5, high=15.0, log=True, source=OFFICIAL)
    interval: float = tunable(0.22, low=0.1, high=0.4, source=f"{OFFICIAL}: every 20 of 90 epochs")
    count: int = tunable(3, low=1, high=4, source=OFFICIAL)
    n_init: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 < {} <= 1", "interval")
        self.demand("{} >= 1", "count", "n_init")
        self._initial: dict[str, list[Tensor]] = {}

    def events(self, epochs: int) -> list[int]:
        """Return the 0-based epochs at whose end encoders are set back."""
        every = max(1, round(self.interval * epochs))
        window = self.epochs_of_window(epochs)
        return [e for e in (every * k for k in range(1, self.count + 1)) if e in window and e < epochs - 1]

    def on_epoch_start(self, ctx: Context) -> None:
        if not self._initial:
            self._initial = {m: [p.detach().clone() for p in ctx.model.parameters_of(m)] for m in ctx.model.modalities}

    def on_epoch_end(self, ctx: Context) -> None:
        if ctx.epoch not in self.events(ctx.epochs):
            return
        train, train_labels = ctx.encode("train")
        monitor, monitor_labels = ctx.encode("monitor")
        weights = {}
        for m in ctx.model.modalities:
            gap = (self._purity(train[m], train_labels, ctx), self._purity(monitor[m], monitor_labels, ctx))
            weights[m] = w = reinit_weight(*gap, self.lam)
            with torch.no_grad():
                for p, initial in zip(ctx.model.parameters_of(m), self._initial[m], strict=True):
                    p.lerp_(initial, w.to(p))
        ctx.log("reinit", weights)

    def _purity(self, features: Tensor, labels: Tensor, ctx: Context) -> Tensor:
        generator = torch.Generator().manual_seed(derive(ctx.seed, "kmeans", ctx.epoch))
        classes = ctx.model.classes
        clusters = kmeans(minmax(features), classes, n_init=self.n_init, generator=generator)
        return purity(labels, clusters, classes, features.dtype)

    def never_acts(self, epochs: int) -> str | None:
        if self.events(epochs):
            return None
        return f"its interval of {self.interval:g} of the run leaves no event before the last of {epochs} epochs"

    def min_epochs(self, epochs: int) -> int:
        """Judged once the first event's damage is repaired: half an interval after it."""
        events = self.events(epochs)
        return events[0] + 1 + max(1, round(self.interval * epochs) // 2) if events else 0

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"lam": 0.0})

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self._initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._initial = state["initial"]
