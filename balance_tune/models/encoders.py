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
    axes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The shapes of one sample that it takes, as names of axes; none: any shape."""
    start: ClassVar[tuple[str, ...]] = ()
    """Settings that only say where its weights start: a trained model is made again without them."""
    modulated: ClassVar[str] = ""
    """The policy that `auto` means for its gradients, where that is not what its weights' dimensions say."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that it imports when it is made, beside torch."""
    features: int
    shape: tuple[int, ...]  # of one sample, as the model's specification names it

    def __init__(self, shape: Sequence[int] = ()) -> None:
        """Start an encoder of samples of `shape`, where it is given.

        Raises:
            UserError: the shape has other axes than `axes` names.
        """
        super().__init__()
        self.stages = nn.ModuleList()
        if shape:
            self.check_shape(shape)

    @classmethod
    def check_shape(cls, shape: Sequence[int]) -> None:
        """Check the shape of samples.

        Args:
            shape: of one sample.

        Raises:
            UserError: samples of this shape cannot be encoded.
        """
        if cls.axes and len(shape) not in map(len, cls.axes):
            kinds = " or ".join(f"({', '.join(names)})" for names in cls.axes)
            raise UserError(f"encoder {cls.name} needs inputs of shape {kinds}, but got {tuple(shape)}.")
        if any(side < 1 for side in shape):
            raise UserError(f"every axis of an input must be at least 1 long, but got {tuple(shape)}.")

    @classmethod
    def check_sizes(cls, **sizes: object) -> None:
        """Check settings that are sizes.

        Args:
            **sizes: settings by name.

        Raises:
            UserError: one is not a whole number of at least 1, or a list of such.
        """
        for name, value in sizes.items():
            numbers = list(value) if isinstance(value, list | tuple) else [value]
            if not numbers or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
                raise UserError(f"`{name} >= 1` (a whole number) must hold for encoder {cls.name}, but got {value!r}.")

    def prepare(self, x: Tensor) -> Tensor:
        """Return the input as the first stage wants it.

        Args:
            x: (B, *shape).
        """
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Return features (B, `features`).

        Args:
            x: the last stage's output.
        """
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, `features`).

        Args:
            x: (B, *shape).
        """
        x = self.prepare(x)
        for stage in self.stages:
            x = stage(x)
        return self.finish(x)


class Mlp(Encoder):
    """Fully connected layers with ReLU, for vectors of features."""

    name = "mlp"

    def __init__(self, shape: Sequence[int], hidden: int = 64, features: int = 64, layers: int = 2) -> None:
        super().__init__(shape)
        self.check_sizes(hidden=hidden, features=features, layers=layers)
        widths = [math.prod(shape), *[hidden] * (layers - 1), features]
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.ReLU(inplace=True)) for a, b in pairwise(widths))
        self.features = features

    def prepare(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Cnn(Encoder):
    """Strided 3x3 convolutions, then one linear layer, for small images and spectrograms (C, H, W).

    Of frames (C, T, H, W) the features are averaged over time.
    """

    name = "cnn"
    axes = (("channels", "height", "width"), ("channels", "time", "height", "width"))

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (8, 16, 16), features: int = 64) -> None:
        super().__init__(shape)
        self.check_sizes(channels=channels, features=features)
        widths = [shape[0], *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(inplace=True)) for a, b in pairwise(widths)
        )
        pixels = math.prod(math.ceil(side / 2 ** len(channels)) for side in shape[-2:])
        self.project = nn.Linear(widths[-1] * pixels, features)
        self.features = features
        self.frames = shape[1] if len(shape) == 4 else 1

    def prepare(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(0, 1) if x.dim() == 5 else x

    def finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x.flatten(1))
        return out if self.frames == 1 else out.view(-1, self.frames, self.features).mean(1)


class Cnn1d(Encoder):
    """Strided convolutions over time, averaged over time, then one linear layer, for series (C, T)."""

    name = "cnn1d"
    axes = (("channels", "time"),)

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int] = (16, 16, 32), features: int = 64, kernel: int = 5
    ) -> None:
        super().__init__(shape)
        self.check_sizes(channels=channels, features=features, kernel=kernel)
        widths = [shape[0], *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, kernel, stride=2, padding=kernel // 2), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.project = nn.Linear(widths[-1], features)
        self.features = features

    def finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x.mean(-1))
        return out
