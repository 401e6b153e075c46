"""The Conformer for sound and other sequences: convolution and attention over time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoder_transformer import check_heads
from balance_tune.models.encoders import Encoder


class Block(nn.Module):
    """One of torchaudio's Conformer layers on (B, width, time): channels first, as all stages are."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.permute(2, 0, 1), None).permute(1, 2, 0)
        return out


class Conformer(Encoder):
    """torchaudio's Conformer on a spectrogram's frames, or the steps of a sequence; features are their mean.

    Args:
        width: of the frames after a linear projection, and of the features.
        heads, layers, ratio, dropout: as of `transformer`.
        kernel: frames that a depthwise convolution sees, odd.
        pool: frames averaged into one before the first layer, which attention's cost falls with quadratically.

    Source: Gulati et al., Conformer: Convolution-augmented Transformer for Speech Recognition, Interspeech 2020.
    """

    name = "conformer"
    needs = ("torchaudio",)
    axes = (("channels", "frequencies", "time"), ("time", "features"))

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 144,
        heads: int = 4,
        layers: int = 4,
        ratio: float = 4.0,
        kernel: int = 31,
        dropout: float = 0.1,
        pool: int = 1,
    ) -> None:
        super().__init__(shape)
        self.check_sizes(width=width, heads=heads, layers=layers, ratio=round(ratio * width), kernel=kernel, pool=pool)
        check_heads(type(self), width, heads, dropout)
        if kernel % 2 == 0:
            raise UserError(f"`kernel` must be odd for encoder conformer, but got {kernel!r}.")
        from torchaudio.models import Conformer as Layers  # a second to import: only for those who use it

        inputs = shape[0] * shape[1] if len(shape) == 3 else shape[1]
        self.project = nn.Linear(inputs, width)
        stack = Layers(width, heads, round(ratio * width), layers, kernel, dropout)
        self.stages = nn.ModuleList(Block(layer) for layer in stack.conformer_layers)
        self.pool = pool
        self.features = width

    def prepare(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = x.flatten(1, 2).transpose(1, 2)
        frames: Tensor = self.project(x).transpose(1, 2)
        if self.pool > 1:
            frames = nn.functional.avg_pool1d(frames, self.pool, ceil_mode=True)
        return frames

    def finish(self, x: Tensor) -> Tensor:
        return x.mean(2)
