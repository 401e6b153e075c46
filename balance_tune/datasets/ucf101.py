"""UCF101: 101 kinds of action; as pictures with optical flow, and, where there is sound, as pictures with sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import media_file, pictures, published, sounds, spectra, videos
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.files import by_lower_case, class_names
from balance_tune.datasets.flow import flow
from balance_tune.datasets.miniature import scene, tone, write_video
from balance_tune.datasets.modality import Modality, Operation, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

MLB = "kkontras/MLB, configs/UCF"
LISTS = {"train": "trainlist01.txt", "test": "testlist01.txt"}
FRAMES = 6
SIZE = (224, 224)
UCF50 = class_names("ucf50")
"""The classes of UCF101's predecessor, whose videos have no sound."""


def segments(train: bool) -> Operation:
    """Return the operation that takes three frames: one of each segment in training, evenly spaced in evaluation."""
    return ("frames", {"count": 3, "how": "segments" if train else "even"})


class Ucf101(Distribution):
    """13,320 clips: three frames, and the optical flow at three moments, as in BalanceBenchmark."""

    name = family = "ucf101"
    protocol = "balance_benchmark"
    layout = (
        "UCF-101/<Class>/v_<Class>_gGG_cCC.avi, ucfTrainTestlist/trainlist01.txt and testlist01.txt, and, where flow "
        "is not to be computed, tvl1_flow/u/<clip>/*.jpg and tvl1_flow/v/<clip>/*.jpg"
    )
    classes = class_names("ucf101")
    modalities: ClassVar[dict[str, Modality]] = {
        "visual": rgb(
            (3, 3, *SIZE),
            stored=(3, FRAMES, *SIZE),
            augment=(segments(True), ("flip", {"p": 0.5})),
            evaluate=(segments(False),),
        ),
        "flow": Modality(
            (2, 3, *SIZE),
            "resnet18",
            stored=(2, FRAMES, *SIZE),
            dtype="uint8",
            unit=1 / 255,
            normalise=None,
            augment=(segments(True), ("flip_channels", {"p": 0.5})),
            evaluate=(segments(False),),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.balance_benchmark()
    needs = (*Distribution.needs, "opencv-python-headless")
    split = SplitRecipe("official", monitor=0.05, val=0.1, carve="group")
    licence = "research use; videos of YouTube under their owners' terms"
    source = "K. Soomro, A. Zamir, M. Shah, CRCV-TR-12-01 (2012)"
    limits: ClassVar[tuple[str, ...]] = (
        "official split 1; validation and monitor rows are whole groups (one video each) of its training rows",
        "six frames a clip are kept, evenly over it; three of them are seen",
        "computed flow is dense inverse search, the published one TV-L1; a store holds one or the other for each clip",
        "published results near 80 % start from ImageNet weights",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return tuple(self.present(source / "ucfTrainTestlist" / name) for name in LISTS.values())

    def items(self, source: Path) -> list[Item]:
        self.present(source / "UCF-101")
        there = by_lower_case(source, "UCF-101/*/*") | by_lower_case(source, "tvl1_flow/[uv]/*")
        items = []
        for part, path in zip(LISTS, self.annotations(source), strict=True):
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
            if not lines:
                raise UserError(f"{path} must list clips as `Class/v_Class_gGG_cCC.avi`, but has none.")
            for number, line in enumerate(lines, start=1):
                item = self._item(there, line.split()[0], part, f"line {number} of {path}")
                if item is not None:
                    items.append(item)
        return items

    def _item(self, there: Mapping[str, str], listed: str, part: str, where: str) -> Item | None:
        kind, slash, file = listed.partition("/")
        clip = file.removesuffix(".avi")
        words = clip.split("_")
        if not slash or len(words) != 4:
            raise UserError(f"{where} must be `Class/v_Class_gGG_cCC.avi`, but is `{listed}`.")
        kind = next((name for name in Ucf101.classes if name.lower() == kind.lower()), kind)
        if not self.takes(kind):
            return None
        video = f"UCF-101/{listed}"
        files = (there.get(video.lower(), video), *self.more_files(there, clip))
        return Item(clip, self.label_of(kind, where), part, f"{kind}_{words[2]}", files)

    def takes(self, kind: str) -> bool:
        """Whether clips of a class belong to the dataset."""
        return True

    def more_files(self, there: Mapping[str, str], clip: str) -> tuple[str, ...]:
        """Return the folders of the published flow of a clip, where they are; names differ in case between releases.

        Args:
            there: what the source holds, path in lower case -> path.
            clip: the clip's name.
        """
        folders = [there.get(f"tvl1_flow/{axis}/{clip}".lower()) for axis in "uv"]
        return tuple(folder for folder in folders if folder is not None) if all(folders) else ()

    def check_items(self, items: Sequence[Item]) -> None:
        """Raise a `UserError` where the kind of flow, published or computed, tells some class from others."""
        published: dict[int | tuple[float, ...], list[bool]] = {}
        for item in items:
            published.setdefault(item.label, []).append(len(item.files) > 1)
        without = [k for k, flags in sorted(published.items()) if not any(flags)]
        if without and len(without) < len(published):
            names = [self.classes[k] for k in without if isinstance(k, int)]
            raise UserError(
                f"published flow must be there for clips of every class, or of none, but tvl1_flow/u and v have none "
                f"of {', '.join(names[:8])}; add it, or move tvl1_flow away, and the flow of all clips is computed."
            )

    def remarks(self, items: Sequence[Item]) -> tuple[str, ...]:
        published = sum(len(item.files) > 1 for item in items)
        computed = len(items) - published
        return (f"flow of {published} clips is published (TV-L1), of {computed} computed (dense inverse search)",)

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        video, *published = (source / file for file in item.files)
        if published:
            moved = {axis: pictures.jpgs(folder) for axis, folder in zip("uv", published, strict=True)}
            return {"visual": self.sample("visual", video), "flow": self.sample("flow", moved)}
        pairs = _pairs(video)  # decoded once for both
        return {"visual": pictures.clip(pairs[::2], FRAMES, SIZE), "flow": _computed(pairs)}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a video, or for `visual` six pictures, for `flow` the pictures of its two axes, {u: [...], v: [...]}."""
        if modality == "visual":
            return pictures.clip(videos.middles(raw, FRAMES), FRAMES, SIZE)
        if not isinstance(raw, Mapping):
            return _computed(_pairs(raw))
        if set(raw) != set("uv") or not all(raw.values()):
            raise Unreadable("the file", "optical flow is the pictures of its axes, u and v")
        return np.concatenate([pictures.clip(_grey(raw[axis]), FRAMES, SIZE) for axis in "uv"])

    def miniature(self, folder: Path) -> None:
        listed: dict[str, list[str]] = {part: [] for part in LISTS}
        for label in (0, 5, 59, 96):  # with sound, all of them
            kind = self.classes[label]
            for group in range(1, 6):
                clip = f"v_{kind}_g{group:02d}_c01"
                path = folder / "UCF-101" / kind / f"{clip}.avi"
                wave = tone(label, clip, 2.4, 44100)
                write_video(path, scene(label, clip, 24), 10, "mpeg4", wave, 44100, "mp3")
                part = "test" if group < 2 else "train"
                listed[part].append(f"{kind}/{clip}.avi" + (f" {label + 1}\n" if part == "train" else "\n"))
        (folder / "ucfTrainTestlist").mkdir()
        for part, lines in listed.items():
            (folder / "ucfTrainTestlist" / LISTS[part]).write_text("".join(lines))


def _pairs(video: media_file.Seen) -> list[NDArray[np.uint8]]:
    """Return the frames at the middles of as many segments as are kept, each with the one 0.04 s after it."""
    return videos.video_frames(video, [t for time in videos.middle_times(video, FRAMES) for t in (time, time + 0.04)])


def _computed(pairs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    both = [flow(a, b) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
    return np.concatenate([pictures.clip([axes[k] for axes in both], FRAMES, SIZE) for k in (0, 1)])


def _grey(files: Sequence[media_file.File]) -> list[NDArray[np.uint8]]:
    """Return the flow pictures of one axis at the middles of as many segments as frames are kept."""
    return [pictures.picture(files[int((k + 0.5) * len(files) / FRAMES)], "L") for k in range(FRAMES)]


class Ucf101Sound(Ucf101):
    """The 51 classes of UCF101 that have sound: spectrogram of 3 s and four frames, as in MLB."""

    name = "ucf101_av"
    protocol = "mlb"
    layout = "UCF-101/<Class>/v_<Class>_gGG_cCC.avi and ucfTrainTestlist/trainlist01.txt and testlist01.txt"
    classes = tuple(kind for kind in Ucf101.classes if kind not in UCF50)
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality((1, 257, 136), "resnet18", standardise=(), dtype="int16", unit=spectra.UNIT, normalise=None),
        "visual": rgb(
            (3, 4, *SIZE),
            stored=(3, 4, 256, 256),
            augment=(
                ("random_resized_crop", {"size": 224, "scale": [0.08, 1.0], "ratio": [9 / 16, 1.0]}),
                ("flip", {"p": 0.5}),
            ),
            evaluate=(("resize", {"size": 224}),),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.mlb(MLB)
    limits: ClassVar[tuple[str, ...]] = (
        Ucf101.limits[0],
        "clips of fewer than four seconds repeat their last frame, and their sound; MLB leaves them out",
        "colours are 0 .. 1 in red, green, blue; MLB feeds 0 .. 255 in blue, green, red",
    )

    def takes(self, kind: str) -> bool:
        return kind not in UCF50

    def more_files(self, there: Mapping[str, str], clip: str) -> tuple[str, ...]:
        return ()

    def check_items(self, items: Sequence[Item]) -> None:
        """Accept all: there is no flow."""

    def remarks(self, items: Sequence[Item]) -> tuple[str, ...]:
        return ()

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        return {m: self.sample(m, source / item.files[0]) for m in self.modalities}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a video, a sound file, a waveform, or four pictures."""
        if modality == "audio":
            wave = spectra.tiled(sounds.sound(raw, 16000), 3 * 16000)
            return spectra.steps(spectra.log_spectrogram(wave, n_fft=512, hop=353))
        frames = videos.stills(raw)
        return pictures.clip(videos.video_frames(raw, fps=1.0, most=4) if frames is None else frames, 4, (256, 256))

    def miniature(self, folder: Path) -> None:
        Ucf101().miniature(folder)
