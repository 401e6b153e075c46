"""CMU-MOSEI and CMU-MOSI: people who speak their mind in front of a camera: how they look, sound, and what they say."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import published
from balance_tune.datasets.base import Dataset, Task
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.miniature import generator
from balance_tune.datasets.modality import Modality
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

MLB = "kkontras/MLB, configs/MOSEI"
PARTS = {"train": "train", "valid": "val", "test": "test"}
LENGTH = 50


def sequence(width: int) -> Modality:
    """Return a modality of 50 time steps of `width` features each, for a transformer."""
    return Modality((LENGTH, width), "transformer", standardise=(1,), normalise=None)


class Mosei(Distribution):
    """22,856 sentences, aligned by word: positive (0 included) or negative, as in BalanceBenchmark."""

    name = family = "mosei"
    protocol = "balance_benchmark"
    file: ClassVar[str] = "mosei_senti_data.pkl"
    layout = "mosei_senti_data.pkl (aligned: train, valid, test of audio, vision, text, labels)"
    classes: ClassVar[tuple[str, ...]] = ("negative", "positive")
    modalities: ClassVar[dict[str, Modality]] = {
        "audio": sequence(74),
        "visual": sequence(35),
        "text": sequence(300),
    }
    recipe: ClassVar[published.Recipe] = published.balance_benchmark()
    needs = ()
    split = SplitRecipe("official", monitor=0.05)
    licence = "CMU Multimodal SDK: research use under its end user licence"
    source = "A. Zadeh and others, ACL 2018 (features: COVAREP, Facet, GloVe)"
    limits: ClassVar[tuple[str, ...]] = (
        "sentences of one video may be in training and monitor rows; official parts are by video",
        "values that are not finite in the official file count as 0, as everywhere",
        "features as published, not standardised",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return (self.present(source / self.file),)

    def label(self, sentiment: float) -> int | tuple[float, ...]:
        """Return the label of a sentiment from -3 to 3."""
        return int(sentiment >= 0)

    def items(self, source: Path) -> list[Item]:
        (path,) = self.annotations(source)
        arrays = _arrays(path, path.stat().st_mtime_ns)
        self._check(path, arrays)
        items = []
        for split, part in PARTS.items():
            names = arrays[split].get("id")
            for row, sentiment in enumerate(arrays[split]["labels"].reshape(-1).tolist()):
                video = "" if names is None else _video(names[row])
                items.append(Item(f"{split}-{row:05d}", self.label(sentiment), part, video, (self.file,), (split, row)))
        return items

    def _check(self, path: Path, arrays: Any) -> None:
        for split in PARTS:
            entry = arrays.get(split) if isinstance(arrays, Mapping) else None
            if not isinstance(entry, Mapping):
                raise UserError(f"{path} must hold {', '.join(PARTS)}, but `{split}` is not in it.")
            labels = entry.get("labels")
            if (
                not isinstance(labels, np.ndarray)
                or labels.ndim == 0
                or labels.dtype.kind not in "fiu"
                or labels.size != len(labels)
            ):
                raise UserError(f"`labels` of {split} in {path} must be one number a sentence, but are not.")
            if not np.isfinite(labels).all() or (np.abs(labels) > 3).any():
                raise UserError(f"`labels` of {split} in {path} must lie from -3 to 3, but some do not.")
            names = entry.get("id")
            if names is not None and (not isinstance(names, np.ndarray | list | tuple) or len(names) != len(labels)):
                raise UserError(
                    f"`id` of {split} in {path} must name each of its {len(labels)} sentences, but does not."
                )
            for name, modality in self.modalities.items():
                x = entry.get(_THEIRS.get(name, name))
                wanted = (len(labels), *modality.stored)
                if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.shape != wanted:
                    actual = f"shape {x.shape} of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
                    raise UserError(
                        f"`{_THEIRS.get(name, name)}` of {split} in {path} must have shape {wanted}, but got {actual}."
                    )

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        split, row = item.more
        path = source / self.file
        arrays = _arrays(path, path.stat().st_mtime_ns)[split]
        sample = {}
        for name in self.modalities:
            sample[name] = self.sample(name, arrays[_THEIRS.get(name, name)][row])
        if not any(x.any() for x in sample.values()):
            raise Unreadable(path, f"row {row} of {split} is all zero")
        return sample

    def sample(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Take the features of a sentence (50, width); values that are not finite count as 0."""
        x = np.asarray(raw, dtype=np.float32)
        return np.where(np.isfinite(x), x, np.float32(0))

    def decode(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Take the features of a sentence, as in the published file."""
        try:
            return self.shaped(modality, self.sample(modality, raw))
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            return Dataset.decode(self, modality, raw)  # which says what it is not

    def miniature(self, folder: Path) -> None:
        arrays: dict[str, dict[str, NDArray[Any]]] = {}
        for split, rows in (("train", 48), ("valid", 12), ("test", 12)):
            random = generator(f"{self.file}-{split}")
            labels = random.uniform(-3, 3, (rows, 1, 1)).astype(np.float32)
            entry: dict[str, NDArray[Any]] = {"labels": labels}
            for name, modality in self.modalities.items():
                pattern = generator(name).normal(size=modality.stored)
                x = labels * pattern + random.normal(size=(rows, *modality.stored))
                entry[_THEIRS.get(name, name)] = x.astype(np.float32)
            entry["audio"][0, 0, 0] = -np.inf  # as there are in the official file
            entry["id"] = np.array([[f"video{row // 3}_{split}", "0", "1"] for row in range(rows)])
            arrays[split] = entry
        (folder / self.file).write_bytes(pickle.dumps(arrays, protocol=2))


_THEIRS = {"visual": "vision"}


@lru_cache(maxsize=1)
def _arrays(path: Path, changed: int) -> Any:
    """Return the file's content; a process reads it once."""
    return read_arrays(path)


def _video(name: Any) -> str:
    """Return the video that a sentence's `id` names: its first part, or the text before a bracket."""
    first = name[0] if isinstance(name, np.ndarray | list | tuple) and len(name) else name
    if not isinstance(first, bytes | str | int):
        raise UserError(f"an `id` must begin with the name of a video, but one is {str(first)[:60]!r}.")
    text = first.decode("latin1") if isinstance(first, bytes) else str(first)
    return text.partition("[")[0]


class MoseiMlb(Mosei):
    """CMU-MOSEI with the strength of sentiment as the label, as in MLB."""

    name = "mosei_mlb"
    protocol = "mlb"
    task: ClassVar[Task] = "regression"
    classes = ("sentiment",)
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {
        "epochs": (30, f"{MLB}: up to 1,500 with patience; here as BalanceBenchmark"),
        "batch_size": (32, MLB),
        "optimizer": ("adamw", MLB),
        "lr": (1e-3, MLB),
        "schedule": ("cosine", f"{MLB}: cosine with restarts; here once over the run"),
    }

    def label(self, sentiment: float) -> int | tuple[float, ...]:
        return (sentiment,)


class Mosi(Mosei):
    """CMU-MOSI: 2,199 sentences, positive (0 included) or negative."""

    name = family = "mosi"
    file: ClassVar[str] = "mosi_data.pkl"
    layout = "mosi_data.pkl (aligned: train, valid, test of audio, vision, text, labels)"
    modalities: ClassVar[dict[str, Modality]] = {"audio": sequence(5), "visual": sequence(20), "text": sequence(300)}
    split = SplitRecipe("official", monitor=0.05)
    source = "A. Zadeh and others, IEEE Intelligent Systems 31 (2016) 82-88 (features: COVAREP, Facet, GloVe)"


class MosiMlb(Mosi):
    """CMU-MOSI with the strength of sentiment as the label."""

    name = "mosi_mlb"
    protocol = "mlb"
    task: ClassVar[Task] = "regression"
    classes = ("sentiment",)
    recipe = MoseiMlb.recipe

    def label(self, sentiment: float) -> int | tuple[float, ...]:
        return (sentiment,)
