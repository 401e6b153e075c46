"""Encoders: one modality's input to one feature vector per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from balance_tune.errors import UserError


class Encoder(nn.Module):
    """Maps one modality's batch (B, *shape) to features (B, `features`), as `finish(stages(prepare(x)))`.

    `stages` are the intermediate blocks in order, which a method may bridge between encoders (Greedy). An encoder that
    has none overrides `forward` alone, and cannot be bridged.
    """

    name: ClassVar[str] = ""
    features: int
    shape: tuple[int, ...]  # of one sample, as the model's specification names it

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList()

    def prepare(self, x: Tensor) -> Tensor:
        """Return the input as the first stage wants it."""
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Return features (B, `features`) from the last stage's output."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.prepare(x)
        for stage in self.stages:
            x = stage(x)
        return self.finish(x)


def _needs(name: str, shape: Sequence[int], axes: tuple[str, ...]) -> None:
    if len(shape) != len(axes):
        raise UserError(f"encoder {name} needs inputs of shape ({', '.join(axes)}), but got {tuple(shape)}.")


class Mlp(Encoder):
    """Fully connected layers with ReLU, for vectors of features."""

    name = "mlp"

    def __init__(self, shape: Sequence[int], hidden: int = 64, features: int = 64, layers: int = 2) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"`layers >= 1` must hold for encoder mlp, but got ({layers=}).")
        widths = [math.prod(shape), *[hidden] * (layers - 1), features]
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths))
        self.features = features

    def prepare(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Cnn(Encoder):
    """Strided 3x3 convolutions, then one linear layer, for small images and spectrograms (C, H, W)."""

    name = "cnn"

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (8, 16, 16), features: int = 64) -> None:
        super().__init__()
        _needs("cnn", shape, ("channels", "height", "width"))
        widths = [shape[0], *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()) for a, b in pairwise(widths)
        )
        pixels = math.prod(math.ceil(side / 2 ** len(channels)) for side in shape[1:])
        self.project = nn.Linear(widths[-1] * pixels, features)
        self.features = features

    def finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x.flatten(1))
        return out


class Cnn1d(Encoder):
    """Strided convolutions over time, averaged over time, then one linear layer, for series (C, T)."""

    name = "cnn1d"

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int] = (16, 16, 32), features: int = 64, kernel: int = 5
    ) -> None:
        super().__init__()
        _needs("cnn1d", shape, ("channels", "time"))
        widths = [shape[0], *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, kernel, stride=2, padding=kernel // 2), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.project = nn.Linear(widths[-1], features)
        self.features = features

    def finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x.mean(-1))
        return out


class ResNet18(Encoder):
    """torchvision's ResNet-18 from scratch on (C, H, W) or frames (C, T, H, W), averaged over time and space to 512."""

    name = "resnet18"
    features = 512

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        from torchvision.models import resnet18  # seconds to import: only for those who use it

        if len(shape) not in (3, 4):
            raise UserError(
                f"encoder resnet18 needs inputs of shape (channels, [time,] height, width), but got {tuple(shape)}."
            )
        net = resnet18(weights=None)
        net.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        self.frames = shape[1] if len(shape) == 4 else 1

    def prepare(self, x: Tensor) -> Tensor:
        if x.dim() == 5:
            x = x.transpose(1, 2).flatten(0, 1)
        out: Tensor = self.stem(x)
        return out

    def finish(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled.view(-1, self.frames, self.features).mean(1)
