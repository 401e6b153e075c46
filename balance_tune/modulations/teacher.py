"""A unimodal model that other models learn from or start from: encoder and head."""

from __future__ import annotations

from torch import Tensor, nn

from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Concat


class Teacher(nn.Module):
    """One modality's encoder and a linear head on its features.

    Args:
        encoder: of the modality.
        head: d_m features to C answers.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @classmethod
    def of(cls, modality: str, encoder: Encoder, classes: int) -> Teacher:
        """Return one whose head is drawn from torch's random state as that of an `unimodal` arm's is."""
        return cls(encoder, Concat({modality: encoder.features}, classes).head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, d_m) and logits (B, C) of inputs (B, *shape)."""
        h: Tensor = self.encoder(x)
        f: Tensor = self.head(h)
        return h, f
