"""Greedy: encoders exchange what they see through bridges, and the one that leans on its bridge too fast is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.bridge import Bridge
from balance_tune.models.encoders import Encoder
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.private_torch import foreach
from balance_tune.tunable import tunable

OFFICIAL = "nyukat/greedy_multimodal_learning, guided training"
TINY = 1e-30


def learning_speed(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return mu = |g|^2 / |theta|^2 over these parameters together, 0-d."""
    g, theta = (torch.stack(foreach("norm", ts)).square().sum() for ts in (gradients, weights))
    return g / theta.clamp_min(TINY)


def lead(mu: Tensor) -> Tensor:
    """Return d = log10(by_1 / main_1) - log10(by_2 / main_2), 0-d, from sums [[by_1, by_2], [main_1, main_2]]."""
    by, main = mu.clamp_min(TINY).log10()
    relative: Tensor = by - main
    return relative[0] - relative[1]


class Pace(nn.Module):
    """The summed learning speeds `mu` (2, 2), and for how many more steps a modality is held, `left` (0-d)."""

    def __init__(self) -> None:
        super().__init__()
        self.mu: Tensor
        self.left: Tensor
        self.register_buffer("mu", torch.zeros(2, 2))
        self.register_buffer("left", torch.zeros((), dtype=torch.long))


@dataclass
class Greedy(Modulation):
    """Balanced learning against greed: the modality that learns from the other faster than by itself is held back.

    mu = |g|^2 / |theta|^2, summed over steps, of each modality's bypass (by) and main parameters
    d = log10(by_1 / main_1) - log10(by_2 / main_2);  |d| > alpha: hold 1 if d > 0, else 2, for `window` steps
    held: its excitations are replaced by their average over all steps so far; mu does not grow meanwhile

    Bridges follow the stages of both encoders: s = relu(S [mean x_1, mean x_2]), x_m <- x_m sigmoid(E_m s), S of width
    2 (c_1 + c_2) / ratio. Bypass: E_m and every S. Main: encoder m and what of the fusion head serves m alone.
    Stages are paired from the last backwards. None is held before `warmup` of the run. Two modalities only, encoders
    with `stages`.
    Deviations: each modality has its own average (official code: the first one's serves both), over the training steps
    before (official: this one too, and passes over validation and test rows); weights differ by 1e-2 after
    24 steps. Warm-up is a fraction. Evaluation is never held (official: it is). The loss is that of one
    classifier on fused features; the official code has a head for each modality and trains CE(f_1, y) + CE(f_2, y),
    without a loss on their mean (fusion `late` with `objective="own"`). That changes who is held first, in 6 to 8 of
    20 seeds on AV-Digits.
    """

    name: ClassVar[str] = "greedy"
    paper: ClassVar[str] = (
        "Wu et al., Characterizing and Overcoming the Greedy Nature of Learning in Multi-modal Deep Neural Networks, "
        "ICML 2022"
    )
    cost: ClassVar[str] = "the bridges, and the lengths of all parameters and gradients"
    windowed: ClassVar[bool] = False

    alpha: float = tunable(0.01, low=0.001, high=0.5, log=True, source=OFFICIAL)
    window: int = tunable(5, low=1, high=20, source=OFFICIAL)
    ratio: float = tunable(4.0, choices=(2.0, 4.0, 8.0), source=OFFICIAL)
    warmup: float = tunable(0.05, choices=(0.0, 0.05, 0.1, 0.2), source=f"{OFFICIAL}: from epoch 2 on")
    objective: Literal["fused", "own"] = "fused"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 1", "window")
        self.demand("{} > 0", "alpha", "ratio")
        self._parts = nn.ModuleDict()

    def build(self, model: MultimodalModel) -> None:
        if len(model.modalities) != 2:
            raise UserError(f"greedy needs exactly two modalities, but got {list(model.modalities)}.")
        encoders = {m: e for m, e in model.encoders.items() if isinstance(e, Encoder) and len(e.stages)}
        for m in model.modalities:
            if m not in encoders:
                raise UserError(f"greedy needs encoders with `stages`, but the encoder of {m} has none.")
        model.bridge = Bridge(encoders, self.ratio)
        self._parts = nn.ModuleDict({"pace": Pace()})

    def modules(self) -> nn.ModuleDict:
        return self._parts

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        if self.objective == "fused":
            return losses
        answers = unimodal_answers(output.features, ctx)
        unimodal = {f"unimodal/{m}": ctx.loss(f, output.batch) for m, f in answers.items()}
        return {**{name: loss for name, loss in losses.items() if name != "fused"}, **unimodal}

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        bridge, pace = ctx.model.bridge, self._parts["pace"]
        assert isinstance(bridge, Bridge)
        assert isinstance(pace, Pace)
        ctx.log("held", bridge.held.to(pace.mu.dtype))
        bridge.remember([s / batch.total for s in ctx.replicas.sum(*bridge.sums())])
        free = pace.left == 0
        speeds = torch.stack([self._speeds(bridge, m, ctx) for m in ctx.model.modalities], dim=1)
        pace.mu += torch.where(free, speeds, 0.0)
        d = lead(pace.mu)
        ctx.log("d", d)
        enters = free & (d.abs() > self.alpha) & (ctx.epoch >= self.warmup * ctx.epochs)
        pace.left.copy_(torch.where(enters, self.window, (pace.left - 1).clamp_min(0)))
        ahead = torch.stack([d > 0, d <= 0])
        bridge.held.copy_(torch.where(enters, ahead, bridge.held) & (pace.left > 0))

    def _speeds(self, bridge: Bridge, modality: str, ctx: Context) -> Tensor:
        """Return the learning speeds (2,) of one modality's bypass and main parameters in this step."""
        bypass = [(p, p.grad) for p in bridge.bypass(modality) if p.grad is not None]
        main = [p for p in ctx.model.parameters_of(modality) if p.grad is not None]
        shares = [_columns(p, c) for p, c in ctx.model.fusion.slices()[modality] if p.grad is not None]
        biases = [(p, p.grad) for p in ctx.model.fusion.own_biases()[modality] if p.grad is not None]
        weights, gradients = [*main, *shares], ctx.model.gradients(modality, "encoder+head")
        speed = learning_speed([*weights, *(p for p, _ in biases)], [*gradients, *(g for _, g in biases)])
        return torch.stack([learning_speed([p for p, _ in bypass], [g for _, g in bypass]), speed])

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "its bridges stay at every setting"


def _columns(parameter: Tensor, columns: slice) -> Tensor:
    return parameter[:, columns] if parameter.dim() > 1 else parameter
