import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from balance_tune.datasets.modality import IMAGENET, Modality
from balance_tune.datasets.moments import Moments
from balance_tune.errors import UserError

FRAMES = Modality((3, 2, 8, 8), "resnet18", stored=(3, 4, 10, 10), dtype="uint8", unit=1 / 255, normalise=IMAGENET)
SPECTROGRAM = Modality((1, 5, 7), "cnn", standardise=(0, 1), dtype="int16", unit=1 / 2000, normalise="train")


def test_pixels_are_scaled_and_normalised_in_one_step() -> None:
    affine = FRAMES.affine(None)
    assert affine is not None
    scale, shift = affine
    pixels = np.random.default_rng(0).integers(0, 256, FRAMES.stored)
    mean, std = (np.reshape(v, (3, 1, 1, 1)) for v in IMAGENET)
    np.testing.assert_allclose(pixels * scale + shift, (pixels / 255 - mean) / std, rtol=1e-12, atol=1e-12)


def test_training_statistics_standardise_what_they_were_taken_from() -> None:
    x = np.random.default_rng(0).integers(-8000, 3000, (150, *SPECTROGRAM.stored)).astype(np.int16)
    affine = SPECTROGRAM.affine(Moments.of(x, SPECTROGRAM).statistics(SPECTROGRAM))
    assert affine is not None
    scaled = x * affine[0] + affine[1]
    np.testing.assert_allclose(scaled.mean((0, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std((0, 3)), 1, atol=1e-9)


def test_moments_do_not_depend_on_how_rows_are_cut() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, *FRAMES.stored)).astype(np.uint8)
    whole = Moments.of(x, FRAMES).statistics(FRAMES)
    pieces = Moments.sum([Moments.of(x[:7], FRAMES), Moments.of(x[7:], FRAMES)]).statistics(FRAMES)
    np.testing.assert_allclose(whole.mean, x.mean((0, 2, 3, 4)) / 255)
    np.testing.assert_allclose(whole.std, x.std((0, 2, 3, 4)) / 255)
    np.testing.assert_allclose(pieces.std, whole.std)


def test_plain_values_only_change_their_unit() -> None:
    affine = dataclasses.replace(SPECTROGRAM, normalise=None).affine(None)
    assert affine is not None
    assert (affine[0].ravel().tolist(), affine[1].ravel().tolist()) == ([1 / 2000], [0.0])


def test_there_is_nothing_to_scale_in_ids_and_standardised_values() -> None:
    assert Modality((40,), "text", dtype="int32", normalise=None).affine(None) is None
    assert Modality((3,), "mlp").affine(None) is None


@pytest.mark.parametrize(
    "modality", [FRAMES, SPECTROGRAM, dataclasses.replace(FRAMES, augment=(("flip", {"p": 0.5}),))]
)
def test_a_modality_reads_back_from_json(modality: Modality) -> None:
    assert Modality.of(json.loads(json.dumps(dataclasses.asdict(modality)))) == modality


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "uint8"}, "standardised values must be float32"),
        ({"dtype": "int32", "normalise": "train"}, "token ids must not be normalised"),
        ({"augment": (("flip", {"p": object()}),)}, "operations must be plain JSON"),
        ({"stored": (3, 0)}, "positive whole numbers"),
    ],
)
def test_a_modality_that_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Modality((3,), "mlp", **given)
