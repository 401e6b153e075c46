"""Late fusion: every modality answers by itself, and the answers are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.models.fusion import Features, Fusion, check_modalities


class Late(Fusion):
    """Averaged logits: f = 1/M sum_m f_m with f_m = W_m h_m + b_m.

    The unimodal logits are exactly the f_m, each with its own full bias.
    """

    name = "late"

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        check_modalities(self, least=1)
        self.heads = nn.ModuleDict({m: nn.Linear(d, classes) for m, d in widths.items()})

    def forward(self, features: Features) -> Tensor:
        return torch.stack(list(self.unimodal_logits(features).values())).mean(0)

    @property
    def share(self) -> float:
        return 1 / len(self.widths)

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        return {m: self.heads[m](features[m]) for m in self.widths}

    def _alone(self, features: Features) -> dict[str, Tensor]:
        return self.unimodal_logits(features)

    def parts(self, features: Features) -> dict[str, Tensor] | None:
        return {m: self.share * F.linear(h, self.heads[m].get_parameter("weight")) for m, h in features.items()}

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.heads[m].get_parameter("weight"), slice(None))] for m in self.widths}

    def own_biases(self) -> dict[str, list[Tensor]]:
        return {m: [self.heads[m].get_parameter("bias")] for m in self.widths}
