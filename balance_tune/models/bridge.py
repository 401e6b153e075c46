"""Bridges: blocks through which two encoders see each other's intermediate outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Features


def squeezed(x: Tensor, samples: int) -> Tensor:
    """Return the mean over positions and frames of a stage's output (samples * frames, channels, ...), per sample."""
    means = x.flatten(2).mean(2) if x.dim() > 2 else x
    out: Tensor = means.unflatten(0, (samples, len(x) // max(samples, 1))).mean(1)
    return out


@torch.no_grad()
def stage_channels(encoder: Encoder) -> list[int]:
    """Return the number of channels (axis 1) that each stage puts out, found by passing one silent sample through."""
    was_training = encoder.training
    encoder.eval()
    x, channels = encoder.prepare(next(encoder.parameters()).new_zeros(1, *encoder.shape)), []
    for stage in encoder.stages:
        x = stage(x)
        channels.append(x.shape[1])
    encoder.train(was_training)
    return channels


class Exchange(nn.Module):
    """Squeeze and excitation across encoders: s = relu(S [mean x_1, mean x_2]);  x_m <- x_m sigmoid(E_m s).

    Args:
        channels: of the stages' outputs, by modality.
        ratio: the squeeze's width is 2 (c_1 + c_2) / ratio.

    Source: Joze et al., MMTM: Multimodal Transfer Module for CNN Fusion, CVPR 2020.
    """

    def __init__(self, channels: Mapping[str, int], ratio: float) -> None:
        super().__init__()
        self.channels = dict(channels)
        total = sum(channels.values())
        width = max(1, int(2 * total / ratio))
        self.squeeze = nn.Linear(total, width)
        self.excite = nn.ModuleDict({m: nn.Linear(width, c) for m, c in channels.items()})
        for i, c in enumerate(channels.values()):
            self.register_buffer(f"average_{i}", torch.zeros(c))
        self.sums: list[Tensor] = []  # (channels,) per modality: excitations of the last training pass, over samples
        self.keep: Literal["new", "more", "nothing"] = "new"  # of a pass: its sums, added to those kept, or none

    def averages(self) -> list[Tensor]:
        """Return the mean excitations (channels,) over the training steps so far, by modality, to change in place."""
        return [self.get_buffer(f"average_{i}") for i in range(len(self.channels))]

    def forward(self, x: Mapping[str, Tensor], samples: int, held: Tensor) -> dict[str, Tensor]:
        """Return the stages' outputs excited; in training by the average excitation where `held` (2,) is true."""
        s = self.squeeze(torch.cat([squeezed(x[m], samples) for m in self.channels], dim=1)).relu()
        excitations = [self.excite[m](s).sigmoid() for m in self.channels]
        if self.training:
            self._observe([e.detach().sum(0) for e in excitations])
            pairs = zip(held.unbind(), self.averages(), excitations, strict=True)
            excitations = [torch.where(h, average.to(e.dtype), e) for h, average, e in pairs]
        return {m: x[m] * _like(e, x[m]) for m, e in zip(self.channels, excitations, strict=True)}

    def _observe(self, sums: list[Tensor]) -> None:
        if self.keep == "new":
            self.sums = sums
        elif self.keep == "more":
            self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]


class Bridge(nn.Module):
    """Encodes two modalities together: their last stages are paired, with an `Exchange` after each pair.

    Attributes:
        held: (2,) bool, whose excitations are replaced by their averages in training.
        seen: 0-d, how many training steps the averages are over.
    """

    def __init__(self, encoders: Mapping[str, Encoder], ratio: float) -> None:
        super().__init__()
        channels = {m: stage_channels(e) for m, e in encoders.items()}
        paired = min(len(c) for c in channels.values())
        self.exchanges = nn.ModuleList(
            Exchange({m: c[len(c) - paired + k] for m, c in channels.items()}, ratio) for k in range(paired)
        )
        self.held: Tensor
        self.seen: Tensor
        self.register_buffer("held", torch.zeros(len(channels), dtype=torch.bool))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, encoders: nn.ModuleDict, inputs: Mapping[str, Tensor]) -> Features:
        """Return {modality: (B, d_m)}."""
        samples, paired = len(next(iter(inputs.values()))), len(self.exchanges)
        owners = {m: e for m, e in encoders.items() if isinstance(e, Encoder)}
        x = {m: e.prepare(inputs[m]) for m, e in owners.items()}
        for m, e in owners.items():
            for stage in e.stages[: len(e.stages) - paired]:
                x[m] = stage(x[m])
        for k, exchange in enumerate(self.exchanges):
            x = exchange({m: e.stages[len(e.stages) - paired + k](x[m]) for m, e in owners.items()}, samples, self.held)
        return {m: e.finish(x[m]) for m, e in owners.items()}

    @torch.no_grad()
    def remember(self, means: Sequence[Tensor]) -> None:
        """Take one more training step's mean excitations into the averages, exchange by exchange, in `sums`' order."""
        self.seen += 1
        averages = [a for exchange in self.parts() for a in exchange.averages()]
        for average, mean in zip(averages, means, strict=True):
            average += (mean.to(average.dtype) - average) / self.seen

    def sums(self) -> list[Tensor]:
        """Return the sums over samples of the last training pass's excitations."""
        return [s for exchange in self.parts() for s in exchange.sums]

    def bypass(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters that carry the other modality to this one: its excitations and every squeeze."""
        modules = [m for exchange in self.parts() for m in (exchange.squeeze, exchange.excite[modality])]
        return [p for module in modules for p in module.parameters()]

    def parts(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if isinstance(exchange, Exchange)]


def _like(excitation: Tensor, x: Tensor) -> Tensor:
    """Repeat (samples, channels) over the frames and positions of x (samples * frames, channels, ...)."""
    frames = excitation.repeat_interleave(len(x) // max(len(excitation), 1), 0)
    return frames.view(*frames.shape, *[1] * (x.dim() - 2))
