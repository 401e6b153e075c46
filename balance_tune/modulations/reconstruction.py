"""Features rebuilt from the answer: a bound on what they hold beside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features


class Reconstruction(nn.Module):
    """All modalities' features from the fused logits: [h_1, ..., h_M] ~ W_2 relu(W_1 f), without biases.

    Args:
        widths: d_m of each modality; the largest is the hidden width.
        classes: C.
    """

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__()
        hidden = max(widths.values())
        self.layers = nn.Sequential(
            nn.Linear(classes, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, sum(widths.values()), bias=False)
        )

    def forward(self, logits: Tensor, features: Features) -> Tensor:
        """Return each sample's mean squared error (B,); its gradient reaches the features, not the logits (B, C)."""
        rebuilt: Tensor = self.layers(logits.detach())
        return (torch.cat(list(features.values()), dim=1) - rebuilt).square().mean(1)
