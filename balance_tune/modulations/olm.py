"""OLM: learnt scales on the logits in the loss, larger for the answer that has learnt least so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.held_out import held_out
from balance_tune.modulations.logit_scales import Scales, generalisation_rates, relative_losses, scale_gradients
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.modulations.scores import by_name
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

CODE = "anonymous-gitlab/OLM"
FUSED = "fused"
__all__ = ["Olm", "ratios", "scale_gradients"]


def ratios(losses: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return r_i (0-d) = (L_i / L_i(0)) / mean_j (L_j / L_j(0)): above 1 for an answer that has learnt less."""
    now, then = (torch.stack([torch.as_tensor(of[i]) for i in losses]) for of in (losses, first))
    return by_name(relative_losses(now, then), losses)


@dataclass
class Olm(MultiLoss):
    """Online logit modulation: L = sum_i CE(w_i f_i, y) over the fused and each modality's own answer, w learnt.

    r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0));  n_b,i = w_i |f_b,i|;  t_b,i = r_i mean_j n_b,j, held fixed
    w_i: Adam with dL/dw_i + d/dw_i sum_b |n_b,i - t_b,i|, and w_i within [0.05, 20];  the network: grad L alone

    w starts at 1. L_i(0) is the mean loss of the first modulated epoch, in which r is 1. The evaluated model answers
    with the plain fused logits. `weight` weighs the modalities' own losses for the network.
    `variant="rates"`: r = (M + 1) softmax_i(G_i / O_i) on a held-out batch per step, G_i = fall of the held-out loss,
    O_i = fall of (training - held-out), both at least 1e-6 and their ratio at most 10.
    Deviations: sums over the batch are means (w's Adam does not notice; the network's rate does not follow the batch
    size); L_i(0) (official: the last batch of the first epoch). In `rates` the official code's r adds up to 1, so that
    all w shrink permanently; its held-out pass updates BatchNorm, its ratio may be 1e6, and its epoch ends with the
    shorter of two loaders; its printed evaluation is on training batches.
    """

    name: ClassVar[str] = "olm"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = "Zong et al., Balancing Multimodal Learning via Online Logit Modulation, IJCAI 2024"
    cost: ClassVar[str] = "one linear head per modality; with variant = rates a forward pass over a held-out batch"

    lr_w: float = tunable(1e-3, low=1e-4, high=1e-2, log=True, source=CODE)
    variant: Literal["loss_ratio", "rates"] = "loss_ratio"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "lr_w")
        self._scales = Scales()
        self._first: dict[str, Tensor] = {}  # summed losses of the first epoch, (M + 1,): "train" and "monitor"
        self._count = 0  # of the steps in `_first`
        self._gradient: Tensor | None = None

    def beyond_step(self) -> str:
        return "losses on a held-out part (`ctx.take`)" if self.variant == "rates" else super().beyond_step()

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        with ctx.autocast():
            answers = {m: precise(self.heads[m](h)) for m, h in output.full_features.items()}
        answers[FUSED] = output.logits
        logits = torch.stack([f.detach() for f in answers.values()])
        scales = self._scales.start(len(answers), logits)
        self._gradient = self._slope(logits, batch, scales, ctx)
        w = by_name(scales, answers)
        own = {
            f"unimodal/{m}": self.weight * ctx.loss(w[m] * f, output.batch) for m, f in answers.items() if m != FUSED
        }
        return {**losses, FUSED: ctx.loss(w[FUSED] * output.logits, output.batch), **own}

    @torch.no_grad()
    def _slope(self, logits: Tensor, batch: Batch, w: Tensor, ctx: Context) -> Tensor:
        """Return d/dw (M + 1,) of the losses and of the distance to the target lengths."""
        losses, slopes, lengths = scale_gradients(logits, batch.labels, w)
        losses, slopes = (x / batch.total for x in ctx.replicas.sum(losses, slopes))
        r = self._ratios(losses, w, ctx)
        n = w[:, None] * lengths
        towards = (torch.sign(n - r[:, None] * n.mean(0)) * lengths).sum(1)
        (towards,) = ctx.replicas.sum(towards)
        return slopes + towards / batch.total

    def _ratios(self, losses: Tensor, w: Tensor, ctx: Context) -> Tensor:
        current = {"train": losses}
        if self.variant == "rates":
            current["monitor"] = self._held_out_losses(w, ctx)
        if ctx.epoch == self.epochs_of_window(ctx.epochs).start:
            for name, x in current.items():
                self._first[name] = self._first.get(name, torch.zeros_like(x)) + x
            self._count += 1
            return torch.ones_like(losses)
        first = {name: x / self._count for name, x in self._first.items()}
        return generalisation_rates(current, first) if "monitor" in current else relative_losses(losses, first["train"])

    def _held_out_losses(self, w: Tensor, ctx: Context) -> Tensor:
        batch = held_out(ctx, "olm", ctx.step)
        ctx.model.eval()
        with ctx.autocast():
            features = ctx.model.encode(batch.inputs)
            answers = [*(self.heads[m](h) for m, h in features.items()), ctx.model.fusion(features)]
        ctx.model.train()
        losses, _, _ = scale_gradients(torch.stack([precise(f) for f in answers]), batch.labels, w)
        (summed,) = ctx.replicas.sum(losses)
        return summed / batch.total

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        assert self._gradient is not None
        w = self._scales.step(self._gradient, self.lr_w)
        ctx.log("w", w[:-1])
        ctx.log("w_fused", w[-1])

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"lr_w": 0.0}, reference="multi_loss", tolerance=1e-12)

    def state_dict(self) -> dict[str, Any]:
        return {"scales": self._scales.state_dict(), "first": self._first, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scales.load_state_dict(state["scales"])
        self._first, self._count = dict(state["first"]), state["count"]
