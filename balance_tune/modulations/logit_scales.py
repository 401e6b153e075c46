"""Scales on answers that are learnt beside the network, by an Adam of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.05, 20.0  # of the scales


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


def relative_losses(losses: Tensor, first: Tensor) -> Tensor:
    """Return r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0)), (answers,): above 1 for an answer that has learnt less."""
    left = losses / first.to(losses)
    return left / left.mean()


def generalisation_rates(losses: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> Tensor:
    """Return r (answers,) with mean 1, softmax of G / O, from losses on `train` and `monitor` now and at first.

    G is the fall of the held-out loss, O that of (training - held-out); both at least 1e-6, G / O at most 10.
    """
    gain = first["monitor"] - losses["monitor"]
    overfit = first["train"] - losses["train"] - gain
    ratio = (gain.clamp_min(1e-6) / overfit.clamp_min(1e-6)).clamp_max(10)
    return len(ratio) * ratio.softmax(0)


class Scales:
    """w (answers,), from 1 on, within [0.05, 20]; Adam (0.9, 0.999, 1e-8), whatever the run's optimiser is."""

    def __init__(self) -> None:
        self._state: list[Tensor] = []  # w, and Adam's means of the gradient and of its square; empty before `start`
        self._steps = 0

    def start(self, answers: int, like: Tensor) -> Tensor:
        """Return the scales of so many answers, in the kind and place of another tensor."""
        if not self._state:
            one = torch.ones(answers, dtype=like.dtype, device=like.device)
            self._state = [one, torch.zeros_like(one), torch.zeros_like(one)]
        return self._state[0]

    def step(self, gradient: Tensor, lr: float) -> Tensor:
        """Take one step of Adam and return the scales."""
        w, mean, square = self._state
        self._steps += 1
        mean = torch.lerp(mean, gradient, 0.1)
        square = torch.lerp(square, gradient.square(), 0.001)
        step = mean / (1 - 0.9**self._steps) / ((square / (1 - 0.999**self._steps)).sqrt() + 1e-8)
        w = (w - lr * step).clamp(LOWEST, HIGHEST)
        self._state = [w, mean, square]
        return w

    def state_dict(self) -> dict[str, Any]:
        """Return the scales and Adam's state."""
        return {"state": self._state, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self._state, self._steps = list(state["state"]), state["steps"]
