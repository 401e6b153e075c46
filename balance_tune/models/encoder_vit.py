"""A vision transformer for images and frames; its default size is ViT-Small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoder_transformer import Layer, check_heads
from balance_tune.models.encoders import Encoder


class Vit(Encoder):
    """Patches with learned positions and a class token through transformer layers; frames are averaged.

    The defaults are ViT-S/16: Steiner et al., How to train your ViT?, 2021.

    Args:
        patch: side of a patch; height and width must be multiples of it.
        width, heads, layers, ratio, dropout: as of `transformer`; `width` is the width of the features.
    """

    name = "vit"
    axes = (("channels", "height", "width"), ("channels", "time", "height", "width"))
    modulated = "ndim>=2"  # its one convolution only cuts patches

    def __init__(
        self,
        shape: Sequence[int],
        patch: int = 16,
        width: int = 384,
        heads: int = 6,
        layers: int = 12,
        ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(shape)
        self.check_sizes(patch=patch, width=width, heads=heads, layers=layers, ratio=round(ratio * width))
        check_heads(type(self), width, heads, dropout)
        height, across = shape[-2:]
        if height % patch or across % patch:
            raise UserError(
                f"height and width must be multiples of the patch for encoder vit, but got ({height=}, width={across}, "
                f"{patch=})."
            )
        self.patches = nn.Conv2d(shape[0], width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(width, 1))
        self.position = nn.Parameter(torch.empty(width, 1 + (height // patch) * (across // patch)))
        nn.init.normal_(self.position, std=0.02)
        self.stages = nn.ModuleList(Layer(width, heads, ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.features = width
        self.frames = shape[1] if len(shape) == 4 else 1

    def prepare(self, x: Tensor) -> Tensor:
        if x.dim() == 5:
            x = x.transpose(1, 2).flatten(0, 1)
        patches = self.patches(x).flatten(2)
        token = self.token.to(patches.dtype).expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=2) + self.position

    def finish(self, x: Tensor) -> Tensor:
        answers: Tensor = self.norm(x[:, :, 0])
        return answers.view(-1, self.frames, self.features).mean(1)
