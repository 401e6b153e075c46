"""CREMA-D's numbers, against their definition written out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from balance_tune.datasets.crema_d import CremaD, CremaDMlb, look
from balance_tune.datasets.miniature import write_picture, write_video
from balance_tune.datasets.spectra import UNIT
from balance_tune.datasets.store import open_store
from balance_tune.testing.distributions import prepared


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crema_d")
    CremaD().miniature(folder)
    return folder


def librosa_log_stft(path: Path) -> np.ndarray:
    """log(|librosa.stft(sound)| + 1e-7) of the sound tiled to 3 s at 22,050 Hz, by definition: frame, window, sum."""
    wave, rate = soundfile.read(path, dtype="float32")
    wave = soxr.resample(wave, rate, 22050, quality="HQ")
    wave = np.clip(np.tile(wave, 3)[: 3 * 22050], -1, 1).astype(np.float64)
    wave = np.concatenate([np.zeros(256), wave, np.zeros(256)])
    n = np.arange(512)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 512)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512)
    frames = [fourier @ (window * wave[353 * k : 353 * k + 512]) for k in range(188)]
    return np.log(np.abs(np.stack(frames, axis=1)) + 1e-7)


def test_a_spectrogram_is_librosas_within_a_thousandth(source: Path, tmp_path: Path) -> None:
    data = open_store(prepared(CremaD(), source, tmp_path / "store"))
    part = data.parts["train"]
    items = CremaD().items(source)
    for row in (0, 5):
        item = items[int(part.rows[row])]
        stored = part.take("audio", torch.tensor([row]))[0, 0].numpy() * UNIT
        assert stored.shape == (257, 188)
        # where there is sound; in digital silence single precision shows, in librosa too
        expected = librosa_log_stft(source / item.files[0])
        heard = expected > -12
        assert heard.mean() > 0.75  # recorded at 16 kHz, above 8 kHz there is nothing
        assert np.abs(stored - expected)[heard].max() < 1e-3


def test_a_clip_of_two_seconds_gives_frames_at_zero_one_and_two(tmp_path: Path) -> None:
    still = np.zeros((30, 48, 64, 3), dtype=np.uint8)
    for second, grey in enumerate((40, 120, 200)):
        still[10 * second : 10 * second + 10] = grey
    write_video(tmp_path / "VideoFlash" / "a.flv", still, 10, "flv")
    assert [round(float(frame.mean()), -1) for frame in look(tmp_path / "VideoFlash" / "a.flv")] == [40, 120, 200]


def test_extracted_frames_are_read_in_their_order(source: Path, tmp_path: Path) -> None:
    for number, grey in ((10, 250), (2, 100), (1, 10)):
        write_picture(tmp_path / f"{number:05d}.jpg", np.full((48, 64, 3), grey, dtype=np.uint8))
    assert [round(float(frame.mean())) for frame in look(tmp_path)] == [10, 100, 250]


def test_no_actor_is_in_two_parts_of_mlbs_split(source: Path, tmp_path: Path) -> None:
    manifest = open_store(prepared(CremaDMlb(), source, tmp_path / "store")).manifest
    actors = [actor for part in manifest.groups.values() for actor in part]
    assert len(actors) == len(set(actors)) == 12


def test_what_is_heard_and_seen_tells_the_class(source: Path, tmp_path: Path) -> None:
    part = open_store(prepared(CremaD(), source, tmp_path / "store")).parts["train"]
    rows = torch.arange(len(part))
    loudest = part.take("audio", rows).float().mean(-1).argmax(2).squeeze(1)
    colour = part.take("visual", rows).float().mean((2, 3, 4)).argmax(1)
    for label in part.labels.unique():
        own = part.labels == label
        assert loudest[own].unique().numel() == 1
        assert colour[own].unique().numel() == 1
    assert loudest.unique().numel() == 6
