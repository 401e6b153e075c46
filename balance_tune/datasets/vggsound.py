"""VGGSound: 309 kinds of sound whose source is seen."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from balance_tune.datasets import pictures, published, sounds, spectra, videos
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.files import by_stem, class_names, csv_rows
from balance_tune.datasets.miniature import scene, tone, write_video
from balance_tune.datasets.modality import Modality, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

OGM = "GeWu-Lab/OGM-GE_CVPR2022 README (VGGSound)"
RATE, SECONDS, FRAMES = 16000, 10, 3
HEADERS = (("start", "split"), ("start seconds", "split"), ("start_seconds", "split"), ("# start seconds", "split"))
LEAST = 4  # frames at one a second, as OGM-GE keeps videos


class VggSound(Distribution):
    """About 200,000 videos of ten seconds; spectrogram of 5 of 10 s and three frames, as in OGM-GE."""

    name = family = "vggsound"
    protocol = "ogm"
    layout = "vggsound.csv (id,start,label,split) and <id>_<start>.mp4 (start as 000030; in any folders)"
    classes = class_names("vggsound")
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality(
            (1, 129, 626),
            "resnet18",
            standardise=(),
            stored=(1, 129, 1251),
            dtype="int16",
            unit=spectra.UNIT,
            normalise=None,
            augment=(("crop_time", {"length": 626}),),
            evaluate=(("centre_time", {"length": 626}),),
        ),
        "visual": rgb(
            (3, FRAMES, 224, 224),
            stored=(3, FRAMES, 256, 256),
            augment=(
                ("random_resized_crop", {"size": 224, "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3]}),
                ("flip", {"p": 0.5}),
            ),
            evaluate=(("resize", {"size": 224}),),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.ogm(OGM)
    split = SplitRecipe("official", monitor=0.02, val=0.05)
    licence = "CC BY 4.0 (annotations); videos of YouTube under their owners' terms"
    source = "H. Chen and others, ICASSP 2020"
    limits: ClassVar[tuple[str, ...]] = (
        "videos vanish from YouTube: compare only studies on the same data hash",
        "evaluation hears the middle 5 s of 10; OGM-GE a random 5 s in testing too",
        "5 s are cut from the spectrogram, not the sound: two frames at either end differ a little",
        "videos with fewer than four seconds of pictures are left out, as in OGM-GE",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return (self.present(source / "vggsound.csv"),)

    def items(self, source: Path) -> list[Item]:
        (path,) = self.annotations(source)
        videos = by_stem(source, ".mp4")
        items: dict[str, tuple[Item, str]] = {}
        for k, (where, (video, start, label, part)) in enumerate(csv_rows(path, 4)):
            if k == 0 and (start.lower(), part.lower()) in HEADERS:
                continue
            if part not in ("train", "test") or not start.isdecimal():
                raise UserError(f"{where} must be `id,start,label,train|test`, but is {video},{start},{label},{part}.")
            name = f"{video}_{int(start):06d}"
            file = videos.get(name, f"{name}.mp4")
            item = Item(name, self.label_of(label, where), part, video, (file,))
            first, there = items.setdefault(name, (item, where))
            if first != item:
                raise UserError(
                    f"a video must be listed once, or with the same label and part, but `{name}` is not ({there} and "
                    f"{where})."
                )
        return sorted((item for item, _ in items.values()), key=lambda item: item.sample)

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        path = source / item.files[0]
        length = videos.duration(path)
        if length < LEAST - 1:
            raise Unreadable(path, f"it has {length:.1f} s, fewer than {LEAST} frames at one a second")
        return {m: self.sample(m, path) for m in self.modalities}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a video, a sound file, a waveform, or three pictures."""
        if modality == "audio":
            wave = spectra.tiled(sounds.sound(raw, RATE), SECONDS * RATE)
            return spectra.steps(spectra.log_spectrogram(wave, n_fft=256, hop=128))
        return pictures.clip(videos.middles(raw, FRAMES), FRAMES, (256, 256))

    def miniature(self, folder: Path) -> None:
        rows = []
        for label in (10, 75, 137, 200):
            for k in range(6):
                video, start = f"mini_{label:03d}{k:02d}_", 30 * k
                name = f"{video}_{start:06d}"
                wave = tone(label, name, 4.0, 22050)
                write_video(folder / "video" / f"{name}.mp4", scene(label, name, 20), 5, "libx264", wave, 22050)
                rows.append((video, start, self.classes[label], "train" if k < 5 else "test"))
        with (folder / "vggsound.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
