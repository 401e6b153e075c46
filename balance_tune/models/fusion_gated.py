"""Gated fusion: the first modality opens and closes the channels of the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features, Fusion, check_modalities, check_positive


class Gated(Fusion):
    """Gates in (0, 1) on what the others say: f = W (sigmoid(A_1 h_1) * (A_2 h_2 + ... + A_M h_M)) + b.

    Every A_m has a bias. For audio and visual: audio gates visual, as in OGM's official code. Unimodal logits: the
    other features silenced; a silenced gate is constant, silenced others leave their biases to be gated.

    Args:
        hidden: width of the projections; the widest modality's features unless given (512 in OGM's official code).

    Source: Kiela et al., Efficient Large-Scale Multi-Modal Classification, AAAI 2018.
    """

    name = "gated"

    def __init__(self, widths: Mapping[str, int], classes: int, hidden: int | None = None) -> None:
        super().__init__(widths, classes)
        check_modalities(self, least=2)
        check_positive(self, hidden=hidden)
        hidden = hidden or max(widths.values())
        self.projections = nn.ModuleDict({m: nn.Linear(d, hidden) for m, d in widths.items()})
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: Features) -> Tensor:
        gate, *gated = [self.projections[m](features[m]) for m in self.widths]
        out: Tensor = self.head(gate.sigmoid() * torch.stack(gated).sum(0))
        return out

    def _alone(self, features: Features) -> dict[str, Tensor]:
        """Every modality gates itself, W (sigmoid(u) * u) + b with u = A_m h_m (as in DGL's official code)."""
        projected = {m: self.projections[m](h) for m, h in features.items()}
        return {m: self.head(u.sigmoid() * u) for m, u in projected.items()}

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        kinds = ("weight", "bias")
        return {m: [(self.projections[m].get_parameter(k), slice(None)) for k in kinds] for m in self.widths}
