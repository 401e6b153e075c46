"""What a model is given of each real dataset lies where its recipe says, on a made-up distribution in the real formats.

The numbers are those of the papers' code: floor and ceiling of the logarithm of |STFT| of sound within -1 .. 1 (a Hann
window of n sums to n / 2), the constants of the filter bank, ImageNet's means and deviations, 0 .. 1 of grey flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from balance_tune.datasets.mosei import Mosei
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.store import open_store
from balance_tune.testing.distributions import prepared
from balance_tune.training.feed import draws_for, feed_of
from tests.datasets.prepared import miniature

FLOOR = math.log(1e-7)
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def log_stft(n_fft: int) -> Callable[[Tensor], None]:
    def check(x: Tensor) -> None:
        assert x.min() >= FLOOR - 1e-3
        assert x.max() <= math.log(n_fft / 2) + 1e-3
        assert x.max() > math.log(n_fft / 2 * 0.2)  # the tone of the miniature has an amplitude of 0.4, half of it real
        assert -9 < x.mean() < 0
        assert 1 < x.std() < 6

    return check


def filter_bank(x: Tensor) -> None:
    silent = 4.503877 / (2 * 5.141276)
    end = x[:, :, 1000:]  # three seconds of ten: zeros before scaling
    torch.testing.assert_close(end, torch.full_like(end, silent), atol=1e-3, rtol=0)
    heard = x[:, :, :180]
    assert (
        heard.min() > (math.log(1.2e-7) + 4.503877) / (2 * 5.141276) - 1e-2
    )  # single precision's epsilon is the floor
    assert heard.max() < (25 + 4.503877) / (2 * 5.141276)
    assert heard.std() > 0.1


def standardised(x: Tensor) -> None:
    flat = x.flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(len(x)), atol=5e-3, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(len(x)), atol=5e-3, rtol=0)


def imagenet(x: Tensor) -> None:
    channels = x.transpose(0, 1).flatten(1)
    pixels = channels * DEVIATION[:, None] + MEAN[:, None]
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
    assert pixels.max() > 0.85  # the bright square
    steps = pixels * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-2, rtol=0)


def between_pixels(x: Tensor) -> None:
    pixels = x.transpose(0, 1).flatten(1) * DEVIATION[:, None] + MEAN[:, None]
    assert pixels.min() + 1e-5 >= 0
    assert 0.8 < pixels.max() <= 1 + 1e-5


def flow(x: Tensor) -> None:
    assert x.min() >= 0
    assert x.max() <= 1
    assert abs(float(x.mean()) - 0.5) < 0.1  # what stands still is grey


def words(x: Tensor) -> None:
    assert x.dtype == torch.int32
    assert x.min() >= 0
    assert x.max() < 30522
    assert (x[:, 0] > 0).all()


def features(x: Tensor) -> None:
    assert torch.isfinite(x).all()


TABLE: dict[str, dict[str, Callable[[Tensor], None]]] = {
    "crema_d": {"audio": log_stft(512), "visual": imagenet},
    "crema_d_mlb": {"audio": log_stft(512), "visual": imagenet},
    "crema_d_balance": {"audio": filter_bank, "visual": imagenet},
    "ave": {"audio": standardised, "visual": imagenet},
    "ave_ogm": {"audio": standardised, "visual": imagenet},
    "kinetics_sounds": {"audio": filter_bank, "visual": imagenet},
    "vggsound": {"audio": log_stft(256), "visual": imagenet},
    "ucf101": {"visual": imagenet, "flow": flow},
    "ucf101_av": {"audio": log_stft(512), "visual": imagenet},
    "food101": {"image": imagenet, "text": words},
    **{name: dict.fromkeys(Mosei.modalities, features) for name in ("mosei", "mosei_mlb", "mosi", "mosi_mlb")},
}


@pytest.mark.parametrize("name", TABLE)
def test_values_are_those_of_the_recipe(name: str, tmp_path: Path) -> None:
    dataset, _, data = miniature(name, tmp_path)
    feed = feed_of(data, "train")
    rows = torch.arange(min(8, len(feed)))
    plain = feed.take(rows)
    drawn = feed.prepared(feed.stored(rows), draws_for(feed.inputs, (0,), rows, len(rows)))
    for modality, check in TABLE[name].items():
        for x in (plain[modality], drawn[modality]):
            assert x.shape == (len(rows), *dataset.modalities[modality].shape)
            turned = any(operation == "rotate" for operation, _ in dataset.modalities[modality].augment)
            (between_pixels if turned and x is drawn[modality] else check)(x)


def test_features_are_those_of_the_published_file(tmp_path: Path) -> None:
    Mosei().miniature(tmp_path)
    data = open_store(prepared(Mosei(), tmp_path, tmp_path / "store"))
    held, part = read_arrays(tmp_path / Mosei.file), data.parts["val"]
    for modality, theirs in (("audio", "audio"), ("visual", "vision"), ("text", "text")):
        expected = torch.from_numpy(held["valid"][theirs]).nan_to_num(0, 0, 0)
        torch.testing.assert_close(feed_of(data, "val").take(torch.arange(len(part)))[modality], expected)
