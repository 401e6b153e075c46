"""Mid fusion by a small network on the concatenated features."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features, Fusion, check_modalities, check_positive


class Mlp(Fusion):
    """One hidden layer: f = W relu(A [h_1, ..., h_M] + a) + b.

    Unimodal logits: the other features silenced. A modality's own columns of A serve it alone; a, W and b are shared.

    Args:
        hidden: width of the hidden layer.
    """

    name = "mlp"

    def __init__(self, widths: Mapping[str, int], classes: int, hidden: int = 64) -> None:
        super().__init__(widths, classes)
        check_modalities(self, least=1)
        check_positive(self, hidden=hidden)
        ends = list(accumulate(widths.values(), initial=0))
        self.columns = {m: slice(a, b) for m, a, b in zip(widths, ends, ends[1:], strict=False)}
        self.mix = nn.Linear(ends[-1], hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: Features) -> Tensor:
        out: Tensor = self.head(self.mix(torch.cat([features[m] for m in self.widths], dim=1)).relu())
        return out

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.mix.weight, columns)] for m, columns in self.columns.items()}
