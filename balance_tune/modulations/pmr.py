"""PMR: the modality that separates its classes worse is pulled towards the class prototypes of its own features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.scores import Scores, by_name, score_sums, stacked
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

ARGUMENTS = "fanyunfeng-bit/Modal-Imbalance-PMR default arguments"


def pmr_weights(scores: Scores, alpha: float) -> dict[str, Tensor]:
    """Return the weight of each modality's prototype loss from the scores {modality: 0-d tensor}.

    alpha for every modality whose score is below the largest, else 0: for two modalities alpha for the one behind, and
    0 for both at a tie.
    """
    s = stacked(scores)
    return by_name(alpha * (s < s.amax()).to(s.dtype), scores)


def similarities(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return sim = -||h_i - c_k||_2 (B, C) from features (B, d) and prototypes (C, d); no gradient at distance 0."""
    precise = features if features.dtype == torch.float64 else features.float()
    exact = "donot_use_mm_for_euclid_dist"
    return -torch.cdist(precise, prototypes.to(precise.dtype), compute_mode=exact)


@dataclass
class Pmr(Modulation):
    """Prototypical modal rebalance: the modality behind gets a loss on the distances to its class prototypes.

    c_m,k = mean of h_m over class k, in evaluation mode, at the start of each epoch; c <- (1 - mu) c_new + mu c_old
    sim_m,i = -||h_m,i - c_m||_2;  s_m = sum_i softmax(sim_m,i)[y_i]
    L = CE(f, y) + sum_m w_m CE(sim_m, y),  w_m = alpha if s_m < max_j s_j else 0

    Prototypes come from the whole training part the first time, later from the first tenth of the epoch's batches, as
    kkontras/MLB does it. The authors' code takes a tenth the first time too, and no momentum the second time, so that
    mu of an untrained network's prototypes is not carried on (`official=True`; the weights differ by 1e-4 after the
    first step). A
    class that is absent there keeps its prototype (the official code divides by zero). As in the official code there is
    no BatchNorm before the distance (kkontras/MLB has one), and neither the paper's soft coefficients nor its entropy
    term. For more than two modalities every modality below the largest score gets the loss. `policy`: the prototype
    loss reaches every parameter of its encoder, and no head.
    Deviations: the window is a fraction of the run (official: epochs 0 to 100 of 150), and prototypes are not refreshed
    outside it.
    """

    name: ClassVar[str] = "pmr"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "classes, whose prototypes it makes"
    paper: ClassVar[str] = "Fan et al., PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023"
    cost: ClassVar[str] = "a forward pass over a tenth of the training part per epoch, over all of it in the first"
    reads: ClassVar[str] = "a pass over the training part before each epoch (`ctx.planned`)"

    alpha: float = tunable(1.0, low=0.1, high=5.0, log=True, source=ARGUMENTS)
    mu: float = tunable(0.2, low=0.0, high=0.9, source=ARGUMENTS)
    end: float = tunable(0.67, choices=(0.5, 0.67, 0.8, 1.0), source=f"{ARGUMENTS}: epochs 0 to 100 of 150")
    share: float = 0.1
    official: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "alpha")
        self.demand("0 <= {} <= 1", "mu", "share")
        self._prototypes: dict[str, Tensor] = {}
        self._refreshes = 0

    def on_epoch_start(self, ctx: Context) -> None:
        plan = ctx.plan()
        batches = max(1, int(self.share * len(plan) / ctx.settings.batch_size))
        part = type(plan)(plan.order[: batches * ctx.settings.batch_size])
        new, present = self._class_means(part if self._prototypes or self.official else plan, ctx)
        mu = 0.0 if self.official and self._refreshes == 1 else self.mu
        for m, old in (self._prototypes or new).items():
            self._prototypes[m] = torch.where(present[:, None], (1 - mu) * new[m] + mu * old, old)
        self._refreshes += 1

    @torch.no_grad()
    def _class_means(self, plan: EpochPlan, ctx: Context) -> tuple[dict[str, Tensor], Tensor]:
        """Return c {modality: (C, d_m)} over the plan's rows on all workers, and (C,) whether a class occurs there."""
        model = ctx.model
        like = next(model.parameters())
        sums = {m: torch.zeros(model.classes, d, dtype=like.dtype, device=like.device) for m, d in model.widths.items()}
        counts = torch.zeros(model.classes, dtype=like.dtype, device=like.device)
        model.eval()
        with ctx.autocast():
            for batch in ctx.planned(plan):
                counts.index_add_(0, batch.labels, torch.ones_like(batch.labels, dtype=counts.dtype))
                for m, h in model.encode(batch.inputs).items():
                    sums[m].index_add_(0, batch.labels, h.to(like.dtype))
        model.train()
        counts, *totals = ctx.replicas.sum(counts, *sums.values())
        means = {m: total / counts.clamp_min(1)[:, None] for m, total in zip(sums, totals, strict=True)}
        return means, counts > 0

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        sim = {m: similarities(h, self._prototypes[m]) for m, h in output.full_features.items()}
        (sums,) = ctx.replicas.sum(score_sums(sim, batch.labels))
        weights = pmr_weights(by_name(sums, sim), self.alpha)
        ctx.log("weight", weights)
        return {**losses, **{f"prototype/{m}": w * ctx.loss(sim[m], batch) for m, w in weights.items()}}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"alpha": 0.0})

    def state_dict(self) -> dict[str, Any]:
        return {"prototypes": self._prototypes, "refreshes": self._refreshes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._prototypes, self._refreshes = dict(state["prototypes"]), state["refreshes"]
