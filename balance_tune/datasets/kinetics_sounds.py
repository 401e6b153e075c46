"""Kinetics-Sounds: the 31 classes of Kinetics that can be seen and heard."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from balance_tune.datasets import pictures, published, sounds, spectra, videos
from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.files import by_stem
from balance_tune.datasets.miniature import scene, tone, write_video
from balance_tune.datasets.modality import Modality, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

BML = "GeWu-Lab/BML_TPAMI2024, scripts/train_opm.sh"
SUBSETS = {"training": "train", "validation": "val", "testing": "test"}
SPLIT_FILES = ("KS_train_val.json", "KS.json")
"""BML's lists; the three-way split that its code reads is the first."""
TABLES = {
    "train": ("train.csv",),
    "val": ("validate.csv", "val.csv", "validation.csv"),
    "test": ("test.csv",),
}
"""Kinetics' lists by part: DeepMind's name first, then those of mirrors."""
FRAMES = 3
SIZE = (128, 171)


class KineticsSounds(Distribution):
    """18,716 videos of ten seconds; filter bank of 10 s and three frames, as in the journal version of OGM."""

    name = family = "kinetics_sounds"
    protocol = "ogm"
    layout = (
        "<id>_<start>_<end>.mp4 (000058_000068; in any folders) and KS_train_val.json of BML, or Kinetics' own "
        "train.csv, validate.csv (or val.csv) and test.csv (label,youtube_id,time_start,time_end,split)"
    )
    classes = (
        "blowing_nose",
        "blowing_out_candles",
        "bowling",
        "chopping_wood",
        "dribbling_basketball",
        "laughing",
        "mowing_lawn",
        "playing_accordion",
        "playing_bagpipes",
        "playing_bass_guitar",
        "playing_clarinet",
        "playing_drums",
        "playing_guitar",
        "playing_harmonica",
        "playing_keyboard",
        "playing_organ",
        "playing_piano",
        "playing_saxophone",
        "playing_trombone",
        "playing_trumpet",
        "playing_violin",
        "playing_xylophone",
        "ripping_paper",
        "shoveling_snow",
        "shuffling_cards",
        "singing",
        "stomping_grapes",
        "tap_dancing",
        "tapping_guitar",
        "tapping_pen",
        "tickling",
    )
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": Modality((1, 1024, 128), "resnet18", standardise=(), dtype="float16", normalise=None),
        "visual": rgb(
            (3, FRAMES, 112, 112),
            stored=(3, FRAMES, *SIZE),
            augment=(
                ("random_resized_crop", {"size": 112, "scale": [0.25, 1.0], "ratio": [3 / 4, 4 / 3]}),
                ("flip", {"p": 0.5}),
            ),
            evaluate=(("centre_crop", {"size": 128}), ("resize", {"size": 112})),
        ),
    }
    recipe: ClassVar[published.Recipe] = published.adamw(BML, epochs=100, lr=5e-5, every=40)
    split = SplitRecipe("official", monitor=0.04)
    licence = "videos of YouTube under their owners' terms; Kinetics' annotations: CC BY 4.0"
    source = "R. Arandjelovic and A. Zisserman, ICCV 2017; W. Kay and others, arXiv 1705.06950"
    limits: ClassVar[tuple[str, ...]] = (
        "videos vanish from YouTube: compare only studies on the same data hash",
        "31 classes, as OGM and BalanceBenchmark use; other papers use 32 to 34",
        "three frames at the middles of three segments; what sticks out of 4:3 is cut off",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        for name in SPLIT_FILES:
            if (source / name).exists():
                return (source / name,)
        tables = [
            next((source / n for n in names if (source / n).exists()), source / names[0]) for names in TABLES.values()
        ]
        if not any(path.exists() for path in tables):
            raise self.missing(source / SPLIT_FILES[0])
        return tuple(self.present(path) for path in tables)

    def items(self, source: Path) -> list[Item]:
        first, *_ = paths = self.annotations(source)
        listed = _from_json(first) if first.suffix == ".json" else _from_tables(paths)
        videos = by_stem(source, ".mp4")
        items = []
        for name, (label, part, where) in sorted(listed.items()):
            if first.suffix != ".json" and label not in self.classes:  # Kinetics has 400
                continue
            video = videos.get(name, f"{name}.mp4")
            items.append(Item(name, self.label_of(label, where), part, name[:11], (video,)))
        return items

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        return {m: self.sample(m, source / item.files[0]) for m in self.modalities}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a video, a sound file, a waveform, or three pictures."""
        if modality == "audio":
            return spectra.filter_bank(sounds.sound(raw, 16000), 16000)
        return pictures.clip(videos.middles(raw, FRAMES), FRAMES, SIZE, "cover")

    def miniature(self, folder: Path) -> None:
        database = {}
        for label in (0, 5, 9, 16):
            for k in range(5):
                name = f"mini-{label:02d}{k:04d}_000000_000003"
                subset = "training" if k < 3 else "validation" if k < 4 else "testing"
                path = folder / subset / self.classes[label] / f"{name}.mp4"
                write_video(path, scene(label, name, 15), 5, "libx264", tone(label, name, 3.0, 22050), 22050)
                database[name] = {"subset": subset, "label": self.classes[label]}
        (folder / SPLIT_FILES[0]).write_text(json.dumps({"labels": self.classes, "database": database}))


def _from_json(path: Path) -> dict[str, tuple[str, str, str]]:
    try:
        database = json.loads(path.read_text("utf-8"))["database"]
        listed = {n: (e["label"], SUBSETS[e["subset"]], f"`{n}` in {path}") for n, e in database.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} must hold `database`: id -> label and subset ({', '.join(SUBSETS)}), but: {error!r}."
        ) from error
    if not listed:
        raise UserError(f"{path} must list videos, but lists none.")
    parts = {part for _, part, _ in listed.values()}
    lacking = [subset for subset, part in SUBSETS.items() if part not in parts]
    if lacking:
        raise UserError(
            f"{path} must list videos of {', '.join(SUBSETS)}, but lists none of {', '.join(lacking)}; BML's split "
            f"into three parts is {SPLIT_FILES[0]}, in the same folder of its repository."
        )
    return listed


def _from_tables(paths: tuple[Path, ...]) -> dict[str, tuple[str, str, str]]:
    listed: dict[str, tuple[str, str, str]] = {}
    for part, path in zip(TABLES, paths, strict=True):
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        if not rows or not {"label", "youtube_id", "time_start", "time_end"} <= rows[0].keys():
            raise UserError(f"{path} must have columns label, youtube_id, time_start, time_end and rows, but has not.")
        for number, row in enumerate(rows, start=2):
            try:
                name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
            except ValueError:
                raise UserError(f"times must be whole seconds, but line {number} of {path} says otherwise.") from None
            where = f"line {number} of {path}"
            if name in listed:
                raise UserError(f"a video must be listed once, but `{name}` is in {where} and {listed[name][2]}.")
            listed[name] = (row["label"].strip().replace(" ", "_"), part, where)
    return listed
