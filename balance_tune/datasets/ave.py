"""AVE: ten-second videos with one event that is seen and heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import media_file, pictures, published, sounds, spectra, videos
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.miniature import scene, tone, write_video
from balance_tune.datasets.modality import Modality, Operation, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

MLB = "kkontras/MLB, configs/AVE"
OGM = "GeWu-Lab/OGM-GE_CVPR2022, the settings of CREMA-D"
RATE, SECONDS = 16000, 10
HEADER = "Category&VideoID&Quality&StartTime&EndTime"
FILES = {"test": "testSet.txt", "val": "valSet.txt", "train": "trainSet.txt"}
CROP: tuple[Operation, ...] = (
    ("random_resized_crop", {"size": 224, "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3]}),
    ("flip", {"p": 0.5}),
)
RESIZE: tuple[Operation, ...] = (("resize", {"size": 224}),)


@dataclass(frozen=True)
class Event:
    """What happens from `start` to `end` seconds of a file; to its end where there is none."""

    file: Any
    start: float = 0.0
    end: float | None = None

    @classmethod
    def of(cls, raw: Any) -> Event:
        """Return the event that a user gives: a file, which is all event, or {file, start, end}."""
        if not isinstance(raw, Mapping):
            return cls(raw)
        try:
            start, end = float(raw["start"]), float(raw["end"])
            file = raw["file"]
        except (KeyError, TypeError, ValueError) as error:
            raise Unreadable("the file", f"an event is {{file, start, end}}, in seconds ({error!r})") from error
        if not 0 <= start < end:
            raise Unreadable("the file", f"`0 <= start < end` must hold, but got ({start=:g}, {end=:g})")
        return cls(file, start, end)


def visual(count: int) -> Modality:
    """Return `count` frames at 224 x 224, cropped from 256 x 256 in training and resized in evaluation."""
    return rgb(
        (3, count, 224, 224),
        stored=(3, count, 256, 256),
        augment=CROP,
        evaluate=RESIZE,
    )


class Ave(Distribution):
    """4,143 videos of 28 kinds of event; spectrogram of the event repeated to 10 s, four frames of it, as in MLB."""

    name = family = "ave"
    protocol = "mlb"
    layout = "AVE/<id>.mp4, trainSet.txt, valSet.txt and testSet.txt (`Category&VideoID&Quality&StartTime&EndTime`)"
    classes = (
        "Church bell",
        "Male speech, man speaking",
        "Bark",
        "Fixed-wing aircraft, airplane",
        "Race car, auto racing",
        "Female speech, woman speaking",
        "Helicopter",
        "Violin, fiddle",
        "Flute",
        "Ukulele",
        "Frying (food)",
        "Truck",
        "Shofar",
        "Motorcycle",
        "Acoustic guitar",
        "Train horn",
        "Clock",
        "Banjo",
        "Goat",
        "Baby cry, infant cry",
        "Bus",
        "Chainsaw",
        "Cat",
        "Horse",
        "Toilet flush",
        "Rodents, rats, mice",
        "Accordion",
        "Mandolin",
    )
    frames: ClassVar[int] = 4
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality((1, 257, 1004), "resnet18", standardise=(), dtype="float16", normalise=None),
        "visual": visual(4),
    }
    recipe: ClassVar[published.Recipe] = published.mlb(MLB)
    split = SplitRecipe("official", monitor=0.05)
    licence = "videos of YouTube under their owners' terms; annotations by the authors, for research"
    source = "Y. Tian and others, ECCV 2018"
    limits: ClassVar[tuple[str, ...]] = (
        "an id that is listed twice counts once; one that is also in test or validation is not trained on",
        "402 test videos: differences below two points need many seeds",
        "frames are cached squashed to 256 x 256",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return tuple(self.present(source / name) for name in FILES.values())

    def items(self, source: Path) -> list[Item]:
        items: dict[str, Item] = {}
        for part, name in FILES.items():
            path = self.present(source / name)
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
            if not lines:
                raise UserError(f"{path} must list videos as `{HEADER}`, but has none.")
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.strip().lower() == HEADER.lower():
                    continue
                item = self._item(line, part, f"line {number} of {path}")
                items.setdefault(item.sample, item)
        order = list(FILES)
        return sorted(items.values(), key=lambda item: (order.index(item.part), item.sample))

    def _item(self, line: str, part: str, where: str) -> Item:
        try:
            category, video, _, start, end = line.strip().split("&")
            span = (float(start), float(end))
        except ValueError:
            raise UserError(f"{where} must be `{HEADER}`, but is `{line}`.") from None
        if not 0 <= span[0] < span[1]:
            raise UserError(f"`0 <= StartTime < EndTime` must hold, but {where} says {start} and {end}.")
        return Item(video, self.label_of(category, where), part, video, (f"AVE/{video}.mp4",), span)

    def times(self, start: float, end: float) -> list[float]:
        """Return the seconds of the frames: one a second from the start of the event."""
        return [min(start + k, end) for k in range(self.frames)]

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        start, end = item.more
        return {m: self.sample(m, Event(source / item.files[0], start, end)) for m in self.modalities}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take the event as a video, a sound file, a waveform or pictures; or where it is, {file, start, end}."""
        event = raw if isinstance(raw, Event) else Event.of(raw)
        return self.hear(event) if modality == "audio" else self.look(event)

    def hear(self, event: Event) -> NDArray[Any]:
        """Return the spectrogram of an event; raise `Unreadable` where it is silent."""
        wave = sounds.sound(event.file, RATE)
        if event.end is not None:
            wave = wave[int(event.start * RATE) : int(event.end * RATE)]
        if not wave.any():
            raise Unreadable(media_file.named(event.file), f"it is silent from {event.start:g} to {event.end:g} s")
        return spectra.standard_spectrogram(spectra.tiled(wave, SECONDS * RATE), RATE)

    def look(self, event: Event) -> NDArray[np.uint8]:
        """Return the frames (3, frames, 256, 256) of an event."""
        frames = videos.stills(event.file)
        if frames is None:
            end = videos.duration(event.file) if event.end is None else event.end
            frames = videos.video_frames(event.file, self.times(event.start, end))
        return pictures.clip(frames, self.frames, (256, 256))

    def miniature(self, folder: Path) -> None:
        listed: dict[str, list[str]] = {part: [] for part in FILES}
        for label in (0, 2, 7, 14):
            for k in range(5):
                name = f"mini_{label:02d}{k:04d}"
                part = "train" if k < 3 else "val" if k < 4 else "test"
                wave = tone(label, name, 4.0, RATE)
                write_video(folder / "AVE" / f"{name}.mp4", scene(label, name, 20), 5, "libx264", wave, RATE)
                listed[part].append(f"{self.classes[label]}&{name}&good&{k % 2}&{3 + k % 2}\n")
        for part, lines in listed.items():
            (folder / FILES[part]).write_text("".join(lines))


class AveOgm(Ave):
    """AVE with three frames, at the starts of three segments of the event, as in OGM-GE."""

    name = "ave_ogm"
    protocol = "ogm"
    frames: ClassVar[int] = 3
    modalities: ClassVar[dict[str, Modality]] = {"audio": Ave.modalities["audio"], "visual": visual(3)}
    recipe: ClassVar[published.Recipe] = published.ogm(OGM)

    def times(self, start: float, end: float) -> list[float]:
        return [start + k * (end - start) / self.frames for k in range(self.frames)]
