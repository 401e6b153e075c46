"""The trace of the Fisher information in each encoder's gradients, epoch by epoch, and the window in which it grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from balance_tune.models.multimodal import MultimodalModel
from balance_tune.private_torch import foreach


def window_open(trace: Sequence[float] | Tensor, threshold: float, memory: int = 10) -> bool:
    """Return whether the coming epoch is inside the prime learning window.

    k = (T_last - T_{memory epochs before it}) / (sum of the last `memory`) > threshold, epochs before the first count
    0; the first epoch is inside. With memory 1 this is the paper's relative growth.

    Args:
        trace: T of each finished epoch, the newest last.
        threshold: K.
        memory: 10 in the official code.
    """
    values = [float(t) for t in trace]
    if not values:
        return True
    total = math.fsum(values[-memory:])
    before = values[-1 - memory] if len(values) > memory else 0.0
    return total > 0 and (values[-1] - before) / total > threshold


class Traces:
    """T of each encoder in each epoch: the sum over steps and weights (two or more dimensions) of mean(gradient^2).

    Attributes:
        epochs: (M,) for each epoch so far, the present one included.
    """

    def __init__(self) -> None:
        self.epochs: list[Tensor] = []

    def add(self, epoch: int, model: MultimodalModel) -> None:
        """Add this step's gradients."""
        now = []
        for m in model.modalities:
            weights = [g for g in model.gradients(m) if g.dim() >= 2]
            norms = zip(foreach("norm", weights), weights, strict=True)
            now.append(torch.stack([n.double().square() / g.numel() for n, g in norms]).sum())
        traces = torch.stack(now)
        while len(self.epochs) <= epoch:
            self.epochs.append(torch.zeros_like(traces))
        self.epochs[epoch] = self.epochs[epoch] + traces

    def before(self, epoch: int) -> list[list[float]]:
        """Return each encoder's T of all epochs before one; empty before the first. Waits for the device."""
        rows: list[list[float]] = torch.stack(self.epochs[:epoch]).T.tolist() if epoch and self.epochs else []
        return rows
