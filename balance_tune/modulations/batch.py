"""What flows through a step: the epoch's plan, a batch, the model's output on it, and the losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import Inputs

Losses = dict[str, Tensor]
"""Loss name -> 0-d tensor with gradient; `"fused"` is the task's loss on the fused logits."""


@dataclass(frozen=True)
class EpochPlan:
    """Which rows an epoch visits, in which order.

    Attributes:
        order: (n,) long, positions in the training part; one may occur several times.
        present: (n, M) bool, which modalities are present in each visit, or None where all are.
        silence: what of an absent modality is zero: its inputs, or its features (its encoder still sees the inputs).
        groups: (n,) long, or None. Where the group changes from one row to the next, a batch ends.
    """

    order: Tensor
    present: Tensor | None = None
    silence: Literal["inputs", "features"] = "inputs"
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, size: int) -> list[range]:
        """Return the places in the plan of each global batch: at most `size` rows, none of two groups.

        With `groups` this reads one tensor on the host, once per epoch.
        """
        ends = [len(self)]
        if self.groups is not None and len(self) > 1:
            changes = (self.groups[1:] != self.groups[:-1]).nonzero().flatten() + 1
            ends = [*changes.tolist(), len(self)]
        starts = [0, *ends[:-1]]
        return [range(i, min(i + size, b)) for a, b in zip(starts, ends, strict=True) for i in range(a, b, size)]

    def shares(self, size: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor | None, Tensor, int]]:
        """Yield one worker's share of every global batch: rows (B,), present (B, M), positions (B,), total rows."""
        for places in self.batches(size):
            whole, mine = slice(places.start, places.stop), slice(rank, None, world)
            present = None if self.present is None else self.present[whole][mine]
            positions = torch.arange(len(places), device=self.order.device)[mine]
            yield self.order[whole][mine], present, positions, len(places)


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch: B of its `total` samples.

    Attributes:
        inputs: {modality: (B, *shape)}.
        labels: (B,) classes; or (B, C) labels of 0 and 1; or (B, K) numbers to predict.
        index: (B,) long, positions in the training part.
        position: (B,) long, places in the global batch.
        total: samples of the global batch, on all workers.
        weight: (B,) or None; a sample of weight 0 does not count in the loss.
        present: (B, M) bool or None; features of absent modalities are set to zero after encoding.
    """

    inputs: Inputs
    labels: Tensor
    index: Tensor
    position: Tensor
    total: int
    weight: Tensor | None = None
    present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, weight: Tensor) -> Batch:
        """Return the batch with per-sample weights (B,) multiplied in."""
        return replace(self, weight=weight if self.weight is None else self.weight * weight)


@dataclass(frozen=True)
class Output:
    """A forward pass.

    Attributes:
        logits: (B, C), in float32 or better.
        features: {modality: (B, d_m)} as the fusion saw them.
        full_features: the same before any method dropped or changed them.
        batch: the batch, with the weights that `on_features` gave it.
    """

    logits: Tensor
    features: Features
    full_features: Features
    batch: Batch
