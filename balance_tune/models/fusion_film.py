"""FiLM: the modalities before the last scale and shift the last one's features."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features, Fusion, check_modalities


class Film(Fusion):
    """Feature-wise linear modulation: [gamma, beta] = A [h_1, ..., h_{M-1}] + a;  f = W (gamma * h_M + beta) + b.

    The last modality is conditioned by all before it (for audio and visual: audio conditions visual, as in OGM's
    official code). Unimodal logits: the other features silenced; a silenced condition leaves gamma and beta constant,
    a silenced last modality leaves W beta + b.

    Source: Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
    """

    name = "film"

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        check_modalities(self, least=2)
        *self.conditions, self.conditioned = widths
        ends = list(accumulate((widths[m] for m in self.conditions), initial=0))
        self.columns = {m: slice(a, b) for m, a, b in zip(self.conditions, ends, ends[1:], strict=False)}
        self.condition = nn.Linear(ends[-1], 2 * widths[self.conditioned])
        self.head = nn.Linear(widths[self.conditioned], classes)

    def forward(self, features: Features) -> Tensor:
        gamma, beta = self.condition(torch.cat([features[m] for m in self.conditions], dim=1)).chunk(2, dim=1)
        out: Tensor = self.head(gamma * features[self.conditioned] + beta)
        return out

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        shares = {m: [(self.condition.weight, columns)] for m, columns in self.columns.items()}
        return {**shares, self.conditioned: []}
