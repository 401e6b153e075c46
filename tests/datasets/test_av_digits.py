import io

import numpy as np
import pytest
import soundfile
import torch

from balance_tune.datasets.av_digits import FRAMES, HOP, LENGTH, MELS, N_FFT, RATE, AvDigits, log_mel, picture, waveform
from balance_tune.datasets.base import Samples
from balance_tune.errors import UserError


def flac(values: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def test_a_short_recording_lies_between_silences() -> None:
    heard = waveform(flac(np.full(1001, 0.5)), 0)
    assert heard.shape == (LENGTH,)
    assert heard.nonzero().flatten().tolist() == list(range(2699, 3700))


def test_a_long_recording_is_cropped_to_its_middle() -> None:
    values = np.zeros(LENGTH + 2001)
    values[1001 : 1001 + LENGTH] = 0.25
    assert (waveform(flac(values), 0) == 0.25).all()


def test_the_spectrogram_is_that_of_a_slow_and_obvious_one() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, LENGTH)
    padded = np.pad(wave, N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    power = np.stack([abs(np.fft.rfft(window * padded[HOP * t :][:N_FFT])) ** 2 for t in range(FRAMES)], axis=1)
    hertz = np.linspace(0, RATE / 2, N_FFT // 2 + 1)
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), MELS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    expected = np.zeros((MELS, FRAMES))
    for m in range(MELS):
        low, peak, high = edges[m : m + 3]
        triangle = np.clip(np.minimum((hertz - low) / (peak - low), (high - hertz) / (high - peak)), 0, None)
        expected[m] = np.log(triangle @ power + 1e-6)
    got = log_mel(torch.tensor(wave, dtype=torch.float32)[None])
    assert got.shape == (1, 1, MELS, FRAMES)
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-3)


def test_damaged_audio_is_told_with_its_row() -> None:
    with pytest.raises(UserError, match="audio of row 7 must be readable"):
        waveform(b"not a recording", 7)


def test_audio_at_another_rate_is_told_with_its_row() -> None:
    with pytest.raises(UserError, match="row 3 must be mono at 8000 Hz, but got 1 channels of 100 samples at 16000 Hz"):
        waveform(flac(np.zeros(100), rate=16000), 3)


def test_a_damaged_image_is_told_with_its_row() -> None:
    with pytest.raises(UserError, match="image of row 5 must be a readable PNG") as caught:
        picture(b"not an image", 5)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return AvDigits().read()


def test_there_are_three_hundred_pairs_of_each_digit(samples: Samples) -> None:
    assert np.bincount(samples.labels).tolist() == [300] * 10
    assert {name: x.shape for name, x in samples.inputs.items()} == {
        "audio": (3000, 1, 24, 33),
        "image": (3000, 1, 28, 28),
    }


def test_images_are_bright_digits_on_black(samples: Samples) -> None:
    image = samples.inputs["image"]
    assert (image.min(), image.max()) == (0, 1)
    assert image[:, 0, :, 0].mean() < 0.01 < 0.3 < image[:, 0, 10:18, 10:18].mean()


def test_the_split_is_1000_200_500_1300_and_stays_as_it_is(samples: Samples) -> None:
    from balance_tune.datasets.splits import split_hash

    assignment = AvDigits.split.assign(samples.labels)
    assert np.bincount(assignment).tolist() == [1000, 200, 500, 1300]
    assert split_hash(AvDigits.split, assignment) == "fb1e49b3bbed"


def test_files_and_waveforms_are_prepared_as_training_prepared_them(samples: Samples) -> None:
    digits = AvDigits()
    columns = digits.columns(["audio", "image"])
    for row in (0, 1234, 2999):
        audio, image = columns["audio"][row].as_py(), columns["image"][row].as_py()
        np.testing.assert_allclose(digits.decode("audio", audio), samples.inputs["audio"][row], atol=1e-5)
        np.testing.assert_array_equal(digits.decode("image", image), samples.inputs["image"][row])
        heard, _ = soundfile.read(io.BytesIO(audio))
        np.testing.assert_allclose(digits.decode("audio", heard.tolist()), samples.inputs["audio"][row], atol=1e-5)


@pytest.mark.parametrize(
    ("modality", "raw", "said"),
    [
        ("audio", b"not a recording", "the audio must be readable"),
        ("image", b"not an image", "the image must be a readable PNG"),
        ("image", np.zeros((28, 28)), r"must have shape \(1, 28, 28\), but got \(28, 28\)"),
        ("image", np.full((1, 28, 28), np.nan), "must be finite"),
    ],
)
def test_what_cannot_be_a_sample_is_told(modality: str, raw: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        AvDigits().decode(modality, raw)
