"""A transformer for sequences of features (time, features), such as word vectors or frames' descriptors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder


class Layer(nn.Module):
    """One transformer layer (normalisation first, GELU) on (B, width, tokens): channels first, as all stages are."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width, heads, round(ratio * width), dropout, "gelu", batch_first=True, norm_first=True
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.transpose(1, 2)).transpose(1, 2)
        return out


def check_heads(cls: type[Encoder], width: int, heads: int, dropout: float) -> None:
    """Raise a `UserError` where attention cannot be made of these settings."""
    if width % heads:
        raise UserError(f"`width % heads == 0` must hold for encoder {cls.name}, but got ({width=}, {heads=}).")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(f"`0 <= dropout < 1` must hold for encoder {cls.name}, but got {dropout!r}.")


class SequenceTransformer(Encoder):
    """Projected steps with learned positions through transformer layers; features are their mean, normalised.

    Args:
        width: of the tokens, and of the features.
        heads, layers, ratio: attention heads, number of layers, width of the feed-forward part over that of the tokens.
        dropout: in attention and feed-forward parts.
    """

    name = "transformer"
    axes = (("time", "features"),)

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        ratio: float = 2.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(shape)
        self.check_sizes(width=width, heads=heads, layers=layers, ratio=round(ratio * width))
        check_heads(type(self), width, heads, dropout)
        self.project = nn.Linear(shape[1], width)
        self.position = nn.Parameter(torch.empty(shape[0], width))
        nn.init.normal_(self.position, std=0.02)
        self.stages = nn.ModuleList(Layer(width, heads, ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.features = width

    def prepare(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x) + self.position
        return out.transpose(1, 2)

    def finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.mean(2))
        return out
