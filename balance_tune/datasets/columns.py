"""What a column of a user's table may hold, and how one of its entries becomes a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import media, spectra
from balance_tune.datasets.arrays import load_array
from balance_tune.datasets.decoding import words
from balance_tune.datasets.distribution import Unreadable
from balance_tune.datasets.modality import IMAGENET, Modality
from balance_tune.datasets.tokens import VOCABULARY, hashed
from balance_tune.errors import UserError

Read = Callable[[Any], NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """A modality, the columns it comes from, and what makes a sample of a file, or of words or entries."""

    modality: Modality
    names: tuple[str, ...]
    read: Read
    is_file: bool = True
    is_sound: bool = False

    def sample(self, source: Path, entries: tuple[str, ...]) -> NDArray[Any]:
        """Return the sample of a row's entries; files lie in `source`."""
        if self.is_file:
            return self.read(source / entries[0])
        return self.read(entries[0] if self.modality.ids else entries)


def _spectrogram(
    rate: int = 16000, seconds: float = 5.0, n_fft: int = 512, hop: int = 256, encoder: str = "resnet18"
) -> tuple[Modality, Read]:
    samples = round(rate * seconds)
    shape = (1, n_fft // 2 + 1, 1 + samples // hop)
    modality = Modality(shape, encoder, standardise=(0, 1), dtype="int16", unit=spectra.UNIT, normalise="train")
    return modality, partial(_heard, rate=rate, samples=samples, n_fft=n_fft, hop=hop)


def _heard(file: media.Sound, *, rate: int, samples: int, n_fft: int, hop: int) -> NDArray[Any]:
    wave = spectra.tiled(media.sound(file, rate), samples)
    return spectra.steps(spectra.log_spectrogram(wave, n_fft, hop))


def _filter_bank(rate: int = 16000, frames: int = 1024, encoder: str = "resnet18") -> tuple[Modality, Read]:
    modality = Modality((1, frames, 128), encoder, standardise=(), dtype="float16", normalise=None)
    return modality, partial(_banked, rate=rate, frames=frames)


def _banked(file: media.Sound, *, rate: int, frames: int) -> NDArray[Any]:
    return spectra.filter_bank(media.sound(file, rate), rate, frames)


def _image(size: int = 224, encoder: str = "resnet18") -> tuple[Modality, Read]:
    stored = round(size * 8 / 7)
    modality = Modality(
        (3, size, size),
        encoder,
        stored=(3, stored, stored),
        dtype="uint8",
        unit=1 / 255,
        normalise=IMAGENET,
        augment=(("random_crop", {"size": size}), ("flip", {"p": 0.5})),
        evaluate=(("centre_crop", {"size": size}),),
    )
    return modality, partial(_seen, size=stored)


def _seen(file: media.File, *, size: int) -> NDArray[Any]:
    return media.clip([media.picture(file)], 1, (size, size), "cover")[:, 0].copy()


def _frames(count: int = 3, size: int = 224, encoder: str = "resnet18") -> tuple[Modality, Read]:
    stored = round(size * 8 / 7)
    modality = Modality(
        (3, count, size, size),
        encoder,
        stored=(3, count, stored, stored),
        dtype="uint8",
        unit=1 / 255,
        normalise=IMAGENET,
        augment=(("random_crop", {"size": size}), ("flip", {"p": 0.5})),
        evaluate=(("centre_crop", {"size": size}),),
    )
    return modality, partial(_watched, count=count, size=stored)


def _watched(seen: media.Seen, *, count: int, size: int) -> NDArray[Any]:
    return media.clip(media.middles(seen, count), count, (size, size), "cover")


def _text(length: int = 40, vocabulary: int = VOCABULARY, encoder: str = "text") -> tuple[Modality, Read]:
    modality = Modality((length,), encoder, {"vocabulary": vocabulary}, standardise=(), dtype="int32", normalise=None)
    return modality, partial(_read, length=length, vocabulary=vocabulary)


def _read(text: Any, *, length: int, vocabulary: int) -> NDArray[Any]:
    return hashed(words(text), length, vocabulary)


def _array(shape: list[int] | None = None, encoder: str = "mlp") -> tuple[Modality, Read]:
    if not shape:
        raise UserError("a column of kind `array` must have `shape`, but has not.")
    return Modality(tuple(shape), encoder, normalise="train"), _loaded


def _loaded(file: media.File) -> NDArray[Any]:
    try:
        return load_array(file).astype(np.float32, copy=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Unreadable(
            media.named(file), f"it is no array of numbers ({str(error).partition(chr(10))[0]})"
        ) from error


def _numbers(encoder: str = "mlp") -> tuple[Modality, Read]:
    return Modality((1,), encoder, normalise="train"), _counted


def _counted(entries: tuple[str, ...]) -> NDArray[Any]:
    try:
        return np.array([float(text) for text in entries], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise Unreadable("the table", f"{error}") from error


KINDS: dict[str, Callable[..., tuple[Modality, Read]]] = {
    "spectrogram": _spectrogram,
    "filter_bank": _filter_bank,
    "image": _image,
    "frames": _frames,
    "text": _text,
    "array": _array,
    "numbers": _numbers,
}
"""What a modality of a table may be: log-spectrogram or filter bank of a sound, a picture, frames of a video, words,
an array in a .npy file, numbers in columns."""
WORDS = ("text", "numbers")  # in the table itself
SOUNDS = ("spectrogram", "filter_bank")


def column_of(name: str, entry: Any) -> Column:
    """Return a modality of a table from its entry in the recipe.

    Raises:
        UserError: its kind does not exist, or does not take its settings.
    """
    if not isinstance(entry, Mapping) or "column" not in entry:
        raise UserError(f"modality `{name}` of a recipe must have `column` and `kind`, but got {entry!r}.")
    settings = {key: value for key, value in entry.items() if key not in ("column", "kind")}
    kind = entry.get("kind")
    if kind not in KINDS:
        raise UserError(f"`kind` of modality `{name}` must be one of {', '.join(KINDS)}, but got `{kind}`.")
    given = entry["column"]
    names = tuple(map(str, given)) if isinstance(given, list) else (str(given),)
    if len(names) > 1 and kind != "numbers":
        raise UserError(f"modality `{name}` must come from one column, because it is of kind {kind}, but got {names}.")
    try:
        modality, read = KINDS[kind](**settings)
    except TypeError as error:
        raise UserError(f"modality `{name}` of kind {kind} must take its settings, but: {error}.") from error
    if kind == "numbers":
        modality = Modality((len(names),), modality.encoder, normalise="train")
    return Column(modality, names, read, kind not in WORDS, kind in SOUNDS)
