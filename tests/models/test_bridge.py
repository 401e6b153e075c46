"""Bridges between encoders: what the stages put out, squeezed per sample and excited per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from balance_tune.models.bridge import Bridge, Exchange, squeezed, stage_channels
from balance_tune.models.encoders import Cnn, Encoder, Mlp


class Frames(Encoder):
    """Folds (channels, frames, side) into the batch, as encoders of video do."""

    def __init__(self, frames: int = 3) -> None:
        super().__init__()
        self.shape, self.frames, self.features = (2, frames, 5), frames, 4
        self.stages = nn.ModuleList([nn.Conv1d(2, 6, 3), nn.Conv1d(6, 4, 3)])

    def prepare(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(0, 1)

    def finish(self, x: Tensor) -> Tensor:
        return x.mean(2).unflatten(0, (-1, self.frames)).mean(1)


def encoders() -> dict[str, Encoder]:
    made = {"image": Cnn((1, 9, 7), channels=(3, 5)), "text": Mlp((4,), hidden=8, features=6, layers=3)}
    made["image"].shape, made["text"].shape = (1, 9, 7), (4,)
    return {**made, "video": Frames()}


def test_channels_of_stages_are_found_whatever_the_encoder() -> None:
    found = {m: stage_channels(e) for m, e in encoders().items()}
    assert found == {"image": [3, 5], "text": [8, 8, 6], "video": [6, 4]}


def test_last_stages_are_paired_and_earlier_ones_run_by_themselves() -> None:
    both = {m: e for m, e in encoders().items() if m != "video"}
    bridge = Bridge(both, ratio=4)
    assert [exchange.channels for exchange in bridge.parts()] == [{"image": 3, "text": 8}, {"image": 5, "text": 6}]
    features = bridge(nn.ModuleDict(both), {"image": torch.randn(2, 1, 9, 7), "text": torch.randn(2, 4)})
    assert {m: tuple(h.shape) for m, h in features.items()} == {"image": (2, 64), "text": (2, 6)}


def test_frames_of_one_sample_are_squeezed_together_and_excited_alike() -> None:
    x = torch.randn(6, 4, 5)  # two samples of three frames
    assert torch.allclose(squeezed(x, 2)[1], x[3:].mean((0, 2)))
    exchange = Exchange({"video": 4, "text": 3}, ratio=4)
    out = exchange({"video": x, "text": torch.randn(2, 3)}, 2, torch.zeros(2, dtype=torch.bool))["video"]
    factor = out / x
    assert torch.allclose(factor[0], factor[2])
    assert not torch.allclose(factor[0], factor[3])


def test_a_worker_without_samples_passes_nothing_through_unharmed() -> None:
    made = {m: e for m, e in encoders().items() if m != "text"}
    bridge = Bridge(made, ratio=4)
    features = bridge(nn.ModuleDict(made), {"image": torch.randn(0, 1, 9, 7), "video": torch.randn(0, 2, 3, 5)})
    assert {m: tuple(h.shape) for m, h in features.items()} == {"image": (0, 64), "video": (0, 4)}
    assert all(torch.isfinite(s).all() for s in bridge.sums())
