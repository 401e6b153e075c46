"""CREMA-D: actors who say a sentence in one of six emotions, seen and heard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import media_file, pictures, published, sounds, spectra, videos
from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.miniature import scene, tone, write_sound, write_video
from balance_tune.datasets.modality import Modality, Operation, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

OGM = "GeWu-Lab/OGM-GE_CVPR2022 README (CREMA-D)"
MLB = "kkontras/MLB, configs/CREMA_D"
SQUASHED = [0.75 * 3 / 4, 4 / 3 * 3 / 4]
"""Aspects 3/4 to 4/3 of a box in the 480 x 360 original, in a frame that was squashed to a square."""
CROP: tuple[Operation, ...] = (
    ("random_resized_crop", {"size": 224, "scale": [0.08, 1.0], "ratio": SQUASHED}),
    ("flip", {"p": 0.5}),
)
RESIZE: tuple[Operation, ...] = (("resize", {"size": 224}),)
FRAMES = 3  # at one a second: a clip lasts 2 to 3 s
MOST_FRAMES = 6  # at one a second, as the longest clip lasts 5 s
HEADERS = (["clip", "label"], ["file", "label"], ["filename", "label"])


def frames(count: int, how: str, train: bool) -> tuple[Operation, ...]:
    """Return the operations that take `count` frames of a clip, then crop in training, or resize in evaluation."""
    return (("frames", {"count": count, "how": how}), *(CROP if train else RESIZE))


class CremaD(Distribution):
    """7,442 clips of 91 actors; spectrogram of 3 s and one frame of three, as in OGM-GE.

    Every actor is in the official training and test rows alike, so it is not about new people.
    """

    name = family = "crema_d"
    protocol = "ogm"
    classes = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    layout = (
        "AudioWAV/<clip>.wav, VideoFlash/<clip>.flv (or Image-01-FPS/<clip>/*.jpg), and train.csv and test.csv of "
        "OGM-GE (`clip,LABEL`; in it data/CREMAD)"
    )
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality((1, 257, 188), "resnet18", standardise=(), dtype="int16", unit=spectra.UNIT, normalise=None),
        "visual": rgb(
            (3, 1, 224, 224),
            stored=(3, FRAMES, 256, 256),
            augment=frames(1, "random", train=True),
            evaluate=frames(1, "even", train=False),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.ogm(OGM)
    split = SplitRecipe("official", monitor=0.04, val=1 / 9)
    licence = "Open Database License (the database), Database Contents License (its contents)"
    source = "H. Cao and others, IEEE Transactions on Affective Computing 5 (2014) 377-390"
    limits: ClassVar[tuple[str, ...]] = (
        "the official split has every actor in training and test rows; recipe mlb splits by actor",
        "validation and monitor rows are carved out of the official training rows by class",
        "frames are cached at 256 x 256: crops of them are those of the 480 x 360 original, at a lower resolution",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return tuple(self.present(_found(source, f"{part}.csv")) for part in ("train", "test"))

    def items(self, source: Path) -> list[Item]:
        self.present(source / "AudioWAV")
        items = []
        for part, path in zip(("train", "test"), self.annotations(source), strict=True):
            rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if row]
            if not rows:
                raise UserError(f"{path} must list clips as `clip,LABEL`, but has none.")
            for number, row in enumerate(rows, start=1):
                if number == 1 and [field.strip().lower() for field in row] in HEADERS:
                    continue
                if len(row) != 2:
                    raise UserError(f"line {number} of {path} must be `clip,LABEL`, but is `{','.join(row)}`.")
                label = self.label_of(row[1].strip(), f"line {number} of {path}")
                items.append(self._item(source, row[0].strip(), label, part))
        return items

    def _item(self, source: Path, clip: str, label: int, part: str) -> Item:
        extracted = source / "Image-01-FPS" / clip
        visual = f"Image-01-FPS/{clip}" if extracted.is_dir() else f"VideoFlash/{clip}.flv"
        return Item(clip, label, part, group=clip.partition("_")[0], files=(f"AudioWAV/{clip}.wav", visual))

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        return {m: self.sample(m, source / file) for m, file in zip(("audio", "visual"), item.files, strict=True)}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a sound file or a waveform; a video, its frames at one a second as pictures, or one picture."""
        return self.hear(raw) if modality == "audio" else pictures.clip(look(raw), FRAMES, (256, 256))

    def remarks(self, items: Sequence[Item]) -> tuple[str, ...]:
        extracted = sum(item.files[1].startswith("Image-01-FPS/") for item in items)
        if extracted in (0, len(items)):
            return ()
        return (f"{extracted} clips are seen by extracted frames, {len(items) - extracted} by their videos",)

    def hear(self, sound: media_file.Sound) -> NDArray[Any]:
        """Return the spectrogram (or filter bank) of a clip's sound, as the store holds it."""
        wave = spectra.tiled(sounds.sound(sound, 22050), 3 * 22050)
        return spectra.steps(spectra.log_spectrogram(wave, n_fft=512, hop=353))

    def miniature(self, folder: Path) -> None:
        listed: dict[str, list[str]] = {"train": [], "test": []}
        for actor in range(1001, 1013):
            for label, emotion in enumerate(self.classes):
                if (actor + label) % 3:
                    continue
                clip = f"{actor}_IEO_{emotion}_XX"
                write_sound(folder / "AudioWAV" / f"{clip}.wav", tone(label, clip, 2.2, 16000), 16000)
                write_video(folder / "VideoFlash" / f"{clip}.flv", scene(label, clip, 22), 10, "flv")
                listed["test" if actor > 1009 else "train"].append(f"{clip},{emotion}\n")
        for part, lines in listed.items():
            (folder / f"{part}.csv").write_text("\ufeff" + "".join(lines), "utf-8")


class CremaDBalance(CremaD):
    """CREMA-D as in Diagnosing & Re-learning and BalanceBenchmark: filter bank, two frames."""

    name = "crema_d_balance"
    protocol = "balance_benchmark"
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality((1, 1024, 128), "resnet18", standardise=(), dtype="float16", normalise=None),
        "visual": rgb(
            (3, 2, 224, 224),
            stored=(3, FRAMES, 256, 256),
            augment=frames(2, "segments", train=True),
            evaluate=frames(2, "even", train=False),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.balance_benchmark()

    def hear(self, sound: media_file.Sound) -> NDArray[Any]:
        return spectra.filter_bank(sounds.sound(sound, 16000), 16000)


class CremaDMlb(CremaD):
    """CREMA-D as in MLB: the same spectrogram, three frames, and other actors in every part."""

    name = "crema_d_mlb"
    protocol = "mlb"
    layout = "AudioWAV/<clip>.wav and VideoFlash/<clip>.flv (or Image-01-FPS/<clip>/*.jpg)"
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": CremaD.modalities["audio"],
        "visual": rgb(
            (3, 3, 224, 224),
            stored=(3, FRAMES, 256, 256),
            augment=CROP,
            evaluate=RESIZE,
        ),
    }
    recipe: ClassVar[published.Recipe] = published.mlb(MLB)
    split = SplitRecipe("group", train=0.62, monitor=0.08, val=0.15, test=0.15)
    limits: ClassVar[tuple[str, ...]] = (
        "labels are the emotions that were acted; MLB keeps the 5,820 clips on which viewers agree",
        "the folds are by actor as MLB's are, but not the same actors",
        CremaD.limits[2],
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return ()

    def items(self, source: Path) -> list[Item]:
        folder = self.present(source / "AudioWAV")
        items = []
        for path in sorted(folder.glob("[!.]*.wav")):
            words = path.stem.split("_")
            if len(words) != 4:
                raise UserError(
                    f"a clip must be called <actor>_<sentence>_<EMOTION>_<level>.wav, but one is {path.name}."
                )
            items.append(self._item(source, path.stem, self.label_of(words[2], f"the name {path.name}"), ""))
        return items


def look(visual: media_file.Seen) -> list[NDArray[np.uint8]]:
    """Return a clip's frames at one a second, from its video or its extracted frames, in their order.

    More extracted frames than a clip has seconds are at another rate: the middles of segments are taken of them.
    """
    if isinstance(visual, Path) and visual.is_dir() and len(pictures.jpgs(visual)) > MOST_FRAMES:
        return videos.middles(visual, FRAMES)
    extracted = videos.stills(visual)
    return videos.video_frames(visual, fps=1.0, most=FRAMES) if extracted is None else extracted


def _found(source: Path, name: str) -> Path:
    """Return a csv file in the source, or where OGM-GE keeps it."""
    return next((p for p in (source / name, source / "data" / "CREMAD" / name) if p.exists()), source / name)
