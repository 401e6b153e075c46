"""A small transformer for text given as token ids, and ids made from words without a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoder_transformer import check_heads
from balance_tune.models.encoders import Encoder

PADDING = 0


class Text(Encoder):
    """Embedded token ids with learned positions and a class token through transformer layers.

    Ids are whole numbers from 1 to vocabulary - 1; 0 is padding, which nothing attends to, so that a text of padding
    alone (a silenced modality) is a text all the same. Its layers take that mask, so it cannot be bridged.

    Args:
        vocabulary: ids there are, padding included.
        width, heads, layers, ratio, dropout: as of `transformer`; `width` is the width of the features.
    """

    name = "text"
    axes = (("tokens",),)

    def __init__(
        self,
        shape: Sequence[int],
        vocabulary: int = 30522,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
        ratio: float = 4.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(shape)
        self.check_sizes(vocabulary=vocabulary, width=width, heads=heads, layers=layers, ratio=round(ratio * width))
        check_heads(type(self), width, heads, dropout)
        if vocabulary < 2:
            raise UserError(f"`vocabulary >= 2` must hold for encoder text (0 is padding), but got {vocabulary!r}.")
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.empty(1 + shape[0], width))
        nn.init.normal_(self.position, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, round(ratio * width), dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.vocabulary = vocabulary
        self.features = width

    def forward(self, x: Tensor) -> Tensor:
        ids = x.long().clamp(0, self.vocabulary - 1)  # what is not in the vocabulary is its last word
        words = self.embedding(ids)
        h = torch.cat([self.token.to(words.dtype).expand(len(words), -1, -1), words], dim=1) + self.position
        hidden = torch.nn.functional.pad(ids == PADDING, (1, 0), value=False)
        for layer in self.layers:
            h = layer(h, src_key_padding_mask=hidden)
        out: Tensor = self.norm(h[:, 0])
        return out
