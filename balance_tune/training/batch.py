"""What flows through a step: the epoch's plan, a batch, and the model's output on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import Inputs


@dataclass(frozen=True)
class EpochPlan:
    """Which rows an epoch visits: positions in the training part (n,), and the modalities present (n, M) or all."""

    order: Tensor
    present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch.

    inputs {modality: (B, *shape)}; labels (B,); index (B,), position in the training part; position (B,), place in the
    global batch of `total` samples; weight (B,) or None, 0 for a sample whose loss does not count.
    """

    inputs: Inputs
    labels: Tensor
    index: Tensor
    position: Tensor
    total: int
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, weight: Tensor) -> Batch:
        """Return the batch with per-sample weights (B,) multiplied in."""
        return replace(self, weight=weight if self.weight is None else self.weight * weight)


@dataclass(frozen=True)
class Output:
    """A forward pass: fused logits (B, C), the features the fusion saw, and those before any dropping."""

    logits: Tensor
    features: Features
    full_features: Features
    batch: Batch


def share(plan: EpochPlan, start: int, size: int, rank: int, world: int) -> tuple[Tensor, Tensor | None, Tensor, int]:
    """Return (rows, present, positions, total) of this worker in the global batch that begins at `start`."""
    rows = plan.order[start : start + size]
    mine = slice(rank, None, world)
    present = None if plan.present is None else plan.present[start : start + size][mine]
    positions = torch.arange(len(rows), device=rows.device)[mine]
    return rows[mine], present, positions, len(rows)
