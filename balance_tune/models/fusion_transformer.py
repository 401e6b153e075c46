"""Fusion by attention: modalities exchange what fits through a few bottleneck tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features, Fusion, check_modalities, check_positive

FLOOR = 0.1  # of a feature vector's variance: the small features of a fresh encoder must not make its gradients explode


class Transformer(Fusion):
    """Attention bottlenecks: one token P_m norm(h_m) per modality and a few learnt ones; the latter give the answer.

    A modality's token attends to itself and to the bottleneck tokens, these attend to all: modalities meet nowhere
    else. f = W norm(mean of the bottleneck tokens after the last layer) + b. norm is layer normalisation (without
    parameters on h_m); layers normalise first, without dropout. A sample's missing modality is masked: its token is not
    attended to, so that the answer is that of a model without it. Missing is one whose input, or whose feature vector,
    is all zero. Unimodal logits: all other modalities masked.

    Args:
        width: of a token; a multiple of `heads`.
        bottlenecks: number of bottleneck tokens (4 in the paper).

    Source: Nagrani et al., Attention Bottlenecks for Multimodal Fusion, NeurIPS 2021.
    """

    name = "transformer"
    masks = True

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        width: int = 32,
        bottlenecks: int = 4,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__(widths, classes)
        check_modalities(self, least=1)
        check_positive(self, width=width, bottlenecks=bottlenecks, layers=layers, heads=heads)
        if width % heads:
            raise UserError(f"`width % heads == 0` must hold for fusion transformer, but got ({width=}, {heads=}).")
        self.tokens = nn.ModuleDict({m: nn.Linear(d, width) for m, d in widths.items()})
        self.bottlenecks = nn.Parameter(0.02 * torch.randn(bottlenecks, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        n = bottlenecks + len(widths)
        blocked = ~torch.eye(n, dtype=torch.bool)
        blocked[:bottlenecks] = blocked[:, :bottlenecks] = False
        self.blocked: Tensor
        self.register_buffer("blocked", blocked, persistent=False)

    def forward(self, features: Features) -> Tensor:
        scaled = {m: F.layer_norm(features[m], (d,), eps=FLOOR) for m, d in self.widths.items()}
        tokens = torch.stack([self.tokens[m](h) for m, h in scaled.items()], dim=1)
        x = torch.cat([self.bottlenecks.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        missing = F.pad(torch.stack([~features[m].any(1) for m in self.widths], dim=1), (len(self.bottlenecks), 0))
        hidden = missing if len(tokens) else None  # torch cannot join masks of no rows
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be differentiated twice, as LFM needs
            for layer in self.layers:
                x = layer(x, src_mask=self.blocked, src_key_padding_mask=hidden)
        out: Tensor = self.head(self.norm(x[:, : len(self.bottlenecks)].mean(1)))
        return out

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.tokens[m].get_parameter("weight"), slice(None))] for m in self.widths}
