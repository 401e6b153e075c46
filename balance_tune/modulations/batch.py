"""What flows through a step: the epoch's plan, a batch, the model's output on it, and the losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

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
        groups: the order in runs whose rows never share a batch: (number of the group, rows), or None.
    """

    order: Tensor
    present: Tensor | None = None
    silence: Literal["inputs", "features"] = "inputs"
    groups: tuple[tuple[int, int], ...] | None = None

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, size: int) -> list[tuple[int | None, range]]:
        """Return the group and the places in the plan of each global batch: at most `size` rows, none of two groups.

        Args:
            size: rows of a global batch, at most.

        Raises:
            ValueError: the groups do not hold every row of the plan once.
        """
        runs = ((None, len(self)),) if self.groups is None else self.groups
        if sum(rows for _, rows in runs) != len(self):
            raise ValueError(f"groups must hold every row of a plan once, but got {runs} for {len(self)} rows.")
        batches, start = [], 0
        for group, rows in runs:
            batches += [(group, range(i, min(i + size, start + rows))) for i in range(start, start + rows, size)]
            start += rows
        return batches

    def shares(self, size: int, rank: int, world: int) -> Iterator[Share]:
        """Yield one worker's share of every global batch.

        Args:
            size: rows of a global batch, at most.
            rank: of this worker.
            world: number of workers.
        """
        for group, places in self.batches(size):
            whole, mine = slice(places.start, places.stop), slice(rank, None, world)
            present = None if self.present is None else self.present[whole][mine]
            positions = torch.arange(len(places), device=self.order.device)[mine]
            yield Share(self.order[whole][mine], present, positions, len(places), group)


class Share(NamedTuple):
    """Rows of one worker in one global batch, before they are read; see `Batch`."""

    rows: Tensor
    present: Tensor | None
    position: Tensor
    total: int
    group: int | None


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
        group: the number of the plan's group that the whole batch is of; None without groups.
    """

    inputs: Inputs
    labels: Tensor
    index: Tensor
    position: Tensor
    total: int
    weight: Tensor | None = None
    present: Tensor | None = None
    group: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, weight: Tensor) -> Batch:
        """Return the batch with per-sample weights multiplied in.

        Args:
            weight: (B,).
        """
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
