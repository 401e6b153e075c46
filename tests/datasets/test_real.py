"""What is particular to each real dataset: official lists, windows, flow; shapes as the papers' code has them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balance_tune.datasets import pictures
from balance_tune.datasets.ave import Ave, AveOgm
from balance_tune.datasets.crema_d import CremaD, CremaDBalance
from balance_tune.datasets.distribution import Distribution, Unreadable
from balance_tune.datasets.flow import BOUND, flow
from balance_tune.datasets.food101 import Food101, cleaned
from balance_tune.datasets.kinetics_sounds import KineticsSounds
from balance_tune.datasets.miniature import scene, tone, write_picture, write_video
from balance_tune.datasets.mosei import Mosei, Mosi
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.datasets.spectra import UNIT, filter_bank, log_spectrogram, standard_spectrogram, tiled
from balance_tune.datasets.tokens import hashed
from balance_tune.datasets.ucf101 import UCF50, Ucf101, Ucf101Sound
from balance_tune.datasets.vggsound import VggSound
from balance_tune.errors import UserError


@pytest.mark.parametrize(
    ("dataset", "classes", "shapes"),
    [
        (CremaD, 6, {"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}),
        (CremaDBalance, 6, {"audio": (1, 1024, 128), "visual": (3, 2, 224, 224)}),
        (Ave, 28, {"audio": (1, 257, 1004), "visual": (3, 4, 224, 224)}),
        (AveOgm, 28, {"audio": (1, 257, 1004), "visual": (3, 3, 224, 224)}),
        (KineticsSounds, 31, {"audio": (1, 1024, 128), "visual": (3, 3, 112, 112)}),
        (VggSound, 309, {"audio": (1, 129, 626), "visual": (3, 3, 224, 224)}),
        (Ucf101, 101, {"visual": (3, 3, 224, 224), "flow": (2, 3, 224, 224)}),
        (Ucf101Sound, 51, {"audio": (1, 257, 136), "visual": (3, 4, 224, 224)}),
        (Mosei, 2, {"audio": (50, 74), "visual": (50, 35), "text": (50, 300)}),
        (Mosi, 2, {"audio": (50, 5), "visual": (50, 20), "text": (50, 300)}),
        (Food101, 101, {"image": (3, 224, 224), "text": (40,)}),
    ],
)
def test_classes_and_shapes_are_the_papers(
    dataset: type[Distribution], classes: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    assert len(dataset.classes) == classes
    assert {name: modality.shape for name, modality in dataset.modalities.items()} == shapes


@pytest.mark.parametrize(
    ("rate", "seconds", "n_fft", "hop", "shape"),
    [(22050, 3, 512, 353, (1, 257, 188)), (16000, 3, 512, 353, (1, 257, 136)), (16000, 5, 256, 128, (1, 129, 626))],
)
def test_a_log_spectrogram_of_a_tone_has_its_shape_and_its_peak(
    rate: int, seconds: int, n_fft: int, hop: int, shape: tuple[int, ...]
) -> None:
    wave = tiled(np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32), seconds * rate)
    made = log_spectrogram(wave, n_fft, hop)
    assert made.shape == shape
    assert (made[0, :, 3:-3].argmax(0) == round(1000 * n_fft / rate)).all()
    assert made.max() == pytest.approx(np.log(n_fft / 4), abs=0.1)  # half the window's sum


def test_silence_is_the_logarithm_of_the_floor() -> None:
    assert np.allclose(log_spectrogram(np.zeros(4000, dtype=np.float32), 512, 353), np.log(1e-7))
    assert abs(np.log(1e-7)) < np.iinfo(np.int16).max * UNIT


def test_a_filter_bank_is_cut_or_filled_to_its_length_and_scaled() -> None:
    wave = tone(0, "a", 2.0, 16000)
    bank = filter_bank(wave, 16000, frames=1024)
    assert bank.shape == (1, 1024, 128)
    assert bank[0, 300:].min() == bank[0, 300:].max() == np.float16(4.503877 / (2 * 5.141276))  # zeros, scaled
    assert np.array_equal(filter_bank(wave, 16000, frames=50)[0], bank[0, :50])


def test_pmrs_spectrogram_is_standardised_sample_by_sample() -> None:
    made = standard_spectrogram(tiled(tone(0, "a", 2.0, 16000), 160000), 16000).astype(np.float64)
    assert made.shape == (1, 257, 1004)
    assert (abs(made.mean()), abs(made.std() - 1)) < (1e-2, 1e-2)


def test_ave_hears_and_sees_the_event_alone(tmp_path: Path) -> None:
    frames = np.repeat(np.array([10, 90, 170, 250], dtype=np.uint8), 5)[:, None, None, None]
    frames = np.broadcast_to(frames, (20, 48, 64, 3)).copy()
    wave = np.concatenate([np.zeros(16000, dtype=np.float32), tone(0, "a", 3.0, 16000)])
    write_video(tmp_path / "AVE" / "a.mp4", frames, 5, "libx264", wave)
    item = Ave()._item("Bark&a&good&1&3\n", "train", "line 1")
    sample = Ave().load(tmp_path, item)
    assert [round(float(f.mean()), -1) for f in sample["visual"][0]] == [90, 170, 250, 250]
    assert AveOgm().times(1.0, 4.0) == [1.0, 2.0, 3.0]
    early = Ave()._item("Bark&a&good&0&0.5\n", "train", "line 1")
    with pytest.raises(Unreadable, match=r"silent from 0 to 0\.5 s"):
        Ave().load(tmp_path, early)


def test_an_ave_video_that_is_also_in_test_is_not_trained_on(tmp_path: Path) -> None:
    Ave().miniature(tmp_path)
    test = (tmp_path / "testSet.txt").read_text().splitlines()[0]
    with (tmp_path / "trainSet.txt").open("a") as file:
        file.write(f"{test}\n{test}\n")
    items = Ave().items(tmp_path)
    assert [item.part for item in items if item.sample == test.split("&")[1]] == ["test"]
    for line, message in (("Bark&x&good&5&2", "0 <= StartTime < EndTime"), ("Bark&x", "Category&VideoID")):
        (tmp_path / "valSet.txt").write_text(line)
        with pytest.raises(UserError, match=message):
            Ave().items(tmp_path)


def test_kinetics_own_tables_do_as_well_as_bmls_list(tmp_path: Path) -> None:
    KineticsSounds().miniature(tmp_path)
    listed = KineticsSounds().items(tmp_path)
    database = json.loads((tmp_path / "KS_train_val.json").read_text())["database"]
    (tmp_path / "KS_train_val.json").unlink()
    for subset, name in (("training", "train.csv"), ("validation", "validate.csv"), ("testing", "test.csv")):
        with (tmp_path / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            rows.writerow(("abseiling", "zzzzzzzzzzz", len(name), 11, name))  # not one of the 31
            for video, entry in database.items():
                if entry["subset"] == subset:
                    rows.writerow((entry["label"].replace("_", " "), video[:11], 0, 3, name))
    assert KineticsSounds().items(tmp_path) == listed


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"database": {"a": {"subset": "x", "label": "y"}}}', '{"database": {}}']
)
def test_a_wrong_list_of_kinetics_sounds_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "KS_train_val.json").write_text(content)
    with pytest.raises(UserError, match=r"KS_train_val\.json must") as caught:
        KineticsSounds().items(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_vggsound_video_of_three_seconds_is_left_out(tmp_path: Path) -> None:
    write_video(tmp_path / "a_000000.mp4", scene(0, "a", 12), 5, "libx264", tone(0, "a", 2.4, 16000))
    (tmp_path / "vggsound.csv").write_text('a,0,"airplane",train\n')
    (item,) = VggSound().items(tmp_path)
    with pytest.raises(Unreadable, match="fewer than 4 frames"):
        VggSound().load(tmp_path, item)


@pytest.mark.parametrize(
    ("row", "message"),
    [("a,0,airplane", "4 fields"), ("a,x,airplane,train", "id,start"), ("a,0,plane,train", "`plane`")],
)
def test_a_wrong_row_of_vggsound_is_told_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "vggsound.csv").write_text(f"{row}\n")
    with pytest.raises(UserError, match=message) as caught:
        VggSound().items(tmp_path)
    assert "line 1 of" in str(caught.value)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("dataset", "file", "old"),
    [
        (CremaD, "train.csv", "HAP\n"),
        (Ave, "valSet.txt", "Bark&"),
        (KineticsSounds, "KS_train_val.json", '"label": "laughing"'),
        (VggSound, "vggsound.csv", VggSound.classes[75]),
        (Ucf101, "ucfTrainTestlist/testlist01.txt", f"{Ucf101.classes[5]}/"),
        (Food101, "texts/train_titles.csv", f",{Food101.classes[36]}"),
    ],
)
def test_a_wrong_class_is_told_with_where_it_stands(
    dataset: type[Distribution], file: str, old: str, tmp_path: Path
) -> None:
    dataset().miniature(tmp_path)
    known = next(name for name in dataset.classes if name in old)
    replaced(tmp_path / file, old, old.replace(known, "Wrong"))
    with pytest.raises(UserError, match=rf"must be one of .*{Path(file).name} says `Wrong`") as caught:
        plan_of(dataset(), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "first", "second"),
    [
        (CremaD, "train.csv", "test.csv"),
        (Ucf101, "ucfTrainTestlist/trainlist01.txt", "ucfTrainTestlist/testlist01.txt"),
        (Food101, "texts/train_titles.csv", "texts/test_titles.csv"),
    ],
)
def test_a_sample_that_is_listed_twice_is_told(
    dataset: type[Distribution], first: str, second: str, tmp_path: Path
) -> None:
    dataset().miniature(tmp_path)
    line = (tmp_path / first).read_text("utf-8-sig").splitlines()[1]
    with (tmp_path / second).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match="must be listed once") as caught:
        plan_of(dataset(), tmp_path)
    assert "\n" not in str(caught.value)


def test_ucf101_with_sound_has_the_classes_that_ucf50_has_not() -> None:
    assert set(Ucf101Sound.classes) | set(UCF50) == set(Ucf101.classes)
    assert not set(Ucf101Sound.classes) & set(UCF50)


def test_flow_of_a_picture_that_moves_is_its_motion() -> None:
    still = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    first = pictures.fitted(still, (240, 320))
    second = np.roll(first, 5, axis=1)
    u, v = flow(first, second)
    pixels = u[60:180, 80:240].astype(float) * 2 * BOUND / 255 - BOUND
    assert np.median(pixels) == pytest.approx(5, abs=0.3)
    assert np.median(v[60:180, 80:240]) == pytest.approx(127.5, abs=1)


def test_published_flow_is_taken_where_it_is(tmp_path: Path) -> None:
    Ucf101().miniature(tmp_path)
    clip = Ucf101().items(tmp_path)[0].sample
    for axis, grey in (("u", 50), ("v", 200)):
        for k in range(12):
            picture = np.full((48, 64), grey, dtype=np.uint8)
            write_picture(tmp_path / "tvl1_flow" / axis / clip / f"frame{k + 1:06d}.jpg", picture)
    item = Ucf101().items(tmp_path)[0]
    assert item.files[1:] == (f"tvl1_flow/u/{clip}", f"tvl1_flow/v/{clip}")
    sample = Ucf101().load(tmp_path, item)
    assert sample["flow"].shape == (2, 6, 224, 224)
    assert [round(float(axis.mean())) for axis in sample["flow"]] == [50, 200]


def test_titles_lose_addresses_and_words_keep_their_numbers() -> None:
    assert cleaned("RT Best #pho in town http://x.y/z tonight") == "Best pho in town "
    words = hashed("Pho, pho!", 6)
    assert words[0] == words[2] > 0
    assert (words[-2:] == 0).all()
    assert hashed("a " * 99, 5).all()


@pytest.mark.parametrize("fit", ["squash", "cover"])
def test_a_picture_is_squashed_or_cut(fit: Any) -> None:
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 15:25] = 255
    made = pictures.fitted(wide, (20, 20), fit)
    assert made.shape == (20, 20, 3)
    assert made.mean() == pytest.approx(255 / 4 if fit == "squash" else 255, abs=15)
