"""OLM: learnt scales on the logits in the loss, larger for the answer that has learnt least so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.held_out import held_out
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.modulations.scores import by_name
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

CODE = "anonymous-gitlab/OLM"
FUSED = "fused"
LOWEST, HIGHEST = 0.05, 20.0  # of the scales


def ratios(losses: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return r_i (0-d) = (L_i / L_i(0)) / mean_j (L_j / L_j(0)): above 1 for an answer that has learnt less."""
    left = torch.stack([torch.as_tensor(x) for x in losses.values()])
    left = left / torch.stack([torch.as_tensor(first[i]) for i in losses]).to(left)
    return by_name(left / left.mean(), losses)


def scale_gradients(logits: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums over the batch, (answers,) each: losses, their derivatives by w, and the lengths |f_b,i|.

    Args:
        logits: (answers, B, C), without the scales.
        labels: (B,).
        w: (answers,), the scales.
    """
    logp = (w[:, None, None] * logits).log_softmax(-1)
    truth = labels.expand(len(w), -1).unsqueeze(-1)
    losses = -logp.gather(-1, truth).squeeze(-1)
    slopes = (logp.exp() * logits).sum(-1) - logits.gather(-1, truth).squeeze(-1)
    return losses.sum(1), slopes.sum(1), logits.norm(dim=-1)


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
        if self.lr_w < 0:
            raise UserError(f"`lr_w >= 0` must hold for olm, but got {self.lr_w!r}.")
        self._scales: dict[str, Tensor] = {}  # "w", and Adam's "mean" and "square", (M + 1,) each
        self._first: dict[str, Tensor] = {}  # summed losses of the first epoch, (M + 1,): "train" and "monitor"
        self._count = self._steps = 0  # steps in `_first`, and of Adam
        self._gradient: Tensor | None = None

    def beyond_step(self) -> str:
        return "losses on a held-out part (`ctx.take`)" if self.variant == "rates" else super().beyond_step()

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        with ctx.autocast():
            answers = {m: precise(self.heads[m](h)) for m, h in output.full_features.items()}
        answers[FUSED] = output.logits
        logits = torch.stack([f.detach() for f in answers.values()])
        if not self._scales:
            one = torch.ones(len(answers), dtype=logits.dtype, device=logits.device)
            self._scales = {"w": one, "mean": torch.zeros_like(one), "square": torch.zeros_like(one)}
        self._gradient = self._slope(logits, batch, ctx)
        w = by_name(self._scales["w"], answers)
        own = {
            f"unimodal/{m}": self.weight * ctx.loss(w[m] * f, output.batch) for m, f in answers.items() if m != FUSED
        }
        return {**losses, FUSED: ctx.loss(w[FUSED] * output.logits, output.batch), **own}

    @torch.no_grad()
    def _slope(self, logits: Tensor, batch: Batch, ctx: Context) -> Tensor:
        """Return d/dw (M + 1,) of the losses and of the distance to the target lengths."""
        w = self._scales["w"]
        losses, slopes, lengths = scale_gradients(logits, batch.labels, w)
        losses, slopes = (x / batch.total for x in ctx.replicas.sum(losses, slopes))
        r = self._ratios(losses, ctx)
        n = w[:, None] * lengths
        towards = (torch.sign(n - r[:, None] * n.mean(0)) * lengths).sum(1)
        (towards,) = ctx.replicas.sum(towards)
        return slopes + towards / batch.total

    def _ratios(self, losses: Tensor, ctx: Context) -> Tensor:
        current = {"train": losses}
        if self.variant == "rates":
            current["monitor"] = self._held_out_losses(ctx)
        if ctx.epoch == self.epochs_of_window(ctx.epochs).start:
            for name, x in current.items():
                self._first[name] = self._first.get(name, torch.zeros_like(x)) + x
            self._count += 1
            return torch.ones_like(losses)
        first = {name: x / self._count for name, x in self._first.items()}
        if self.variant == "rates":
            gain = first["monitor"] - current["monitor"]
            overfit = first["train"] - current["train"] - gain
            ratio = (gain.clamp_min(1e-6) / overfit.clamp_min(1e-6)).clamp_max(10)
            return len(losses) * ratio.softmax(0)
        names = dict.fromkeys(map(str, range(len(losses))))
        return torch.stack(list(ratios(by_name(losses, names), by_name(first["train"], names)).values()))

    def _held_out_losses(self, ctx: Context) -> Tensor:
        batch = held_out(ctx, "olm", ctx.step)
        ctx.model.eval()
        with ctx.autocast():
            features = ctx.model.encode(batch.inputs)
            answers = [*(self.heads[m](h) for m, h in features.items()), ctx.model.fusion(features)]
        ctx.model.train()
        losses, _, _ = scale_gradients(torch.stack([precise(f) for f in answers]), batch.labels, self._scales["w"])
        (summed,) = ctx.replicas.sum(losses)
        return summed / batch.total

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        assert self._gradient is not None
        w, mean, square = self._scales.values()
        self._steps += 1
        mean = torch.lerp(mean, self._gradient, 0.1)
        square = torch.lerp(square, self._gradient.square(), 0.001)
        step = mean / (1 - 0.9**self._steps) / ((square / (1 - 0.999**self._steps)).sqrt() + 1e-8)
        w = (w - self.lr_w * step).clamp(LOWEST, HIGHEST)
        self._scales = {"w": w, "mean": mean, "square": square}
        ctx.log("w", w[:-1])
        ctx.log("w_fused", w[-1])

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"lr_w": 0.0}, reference="multi_loss", tolerance=1e-12)

    def state_dict(self) -> dict[str, Any]:
        return {"scales": self._scales, "first": self._first, "count": self._count, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scales, self._first = dict(state["scales"]), dict(state["first"])
        self._count, self._steps = state["count"], state["steps"]
