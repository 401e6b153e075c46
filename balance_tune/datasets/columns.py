"""What a column of a user's table may hold, and how one of its entries becomes a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import media_file, pictures, sounds, spectra, videos
from balance_tune.datasets.arrays import load_array
from balance_tune.datasets.augmentation import PICTURES, SOUNDS, augmented, checked
from balance_tune.datasets.csv_header import column_name
from balance_tune.datasets.decoding import Unreadable, words
from balance_tune.datasets.labels import as_number
from balance_tune.datasets.limits import exceeded
from balance_tune.datasets.modality import IMAGENET, Modality
from balance_tune.datasets.tabular import NO_FILE, Cell
from balance_tune.datasets.tokens import VOCABULARY, hashed
from balance_tune.errors import UserError

Read = Callable[[Any], NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """A modality, the columns it comes from, and what makes a sample of a file, or of words or entries.

    Attributes:
        modality: what is stored.
        names: the columns; several of numbers, else one.
        kind: one of `KINDS`.
        read: makes a sample of a file (a path, or its bytes), a text, or the numbers.
        decimal: the decimal sign of numbers in the table.
    """

    modality: Modality
    names: tuple[str, ...]
    kind: str
    read: Read
    decimal: str = "."

    @property
    def is_file(self) -> bool:
        """Whether its entries are files, by path or by content."""
        return self.kind not in WORDS

    @property
    def is_sound(self) -> bool:
        """Whether its entries are sounds."""
        return self.kind in HEARD

    def empty(self, columns: Sequence[Sequence[Cell]]) -> dict[int, str]:
        """Return the rows in which there is nothing, each with the name of the first column that says so.

        Args:
            columns: the cells of each of `names`, one a row.
        """
        nothing = {""} if self.kind == "text" else NO_FILE
        lacking: dict[int, str] = {}
        for name, cells in zip(self.names, columns, strict=True):
            for row, cell in enumerate(cells):
                if not cell or (isinstance(cell, str) and cell.strip().lower() in nothing):
                    lacking.setdefault(row, name)
        return lacking

    def sample(self, source: Path, entries: tuple[Any, ...]) -> NDArray[Any]:
        """Return the sample of a row's entries: text, or what is embedded in the table; files lie in `source`.

        Raises:
            Unreadable: an entry cannot become a sample.
        """
        if self.kind == "numbers":
            return self.read(tuple(self._number(*pair) for pair in zip(self.names, entries, strict=True)))
        (entry,) = entries
        return self.read(source / entry if self.is_file and isinstance(entry, str) else entry)

    def _number(self, name: str, text: Any) -> float:
        try:
            return as_number(text, self.decimal)
        except (ValueError, AttributeError) as error:
            reason = str(error) if isinstance(text, str) else "it is no number"
            raise Unreadable("the table", f"`{name}` is not a number: {reason}") from error


def _spectrogram(
    rate: int = 16000,
    seconds: float = 5.0,
    n_fft: int = 512,
    hop: int = 256,
    encoder: str = "resnet18",
    augment: Mapping[str, Any] | None = None,
) -> tuple[Modality, Read]:
    samples = round(rate * seconds)
    shape = (1, n_fft // 2 + 1, 1 + samples // hop)
    modality = Modality(shape, encoder, standardise=(0, 1), dtype="int16", unit=spectra.UNIT, normalise="train")
    modality = augmented(modality, checked(augment or {}, SOUNDS, "a spectrogram"))
    return modality, partial(_heard, rate=rate, samples=samples, n_fft=n_fft, hop=hop)


def _heard(file: media_file.Sound, *, rate: int, samples: int, n_fft: int, hop: int) -> NDArray[Any]:
    wave = spectra.tiled(sounds.sound(file, rate), samples)
    return spectra.steps(spectra.log_spectrogram(wave, n_fft, hop))


def _filter_bank(
    rate: int = 16000, frames: int = 1024, encoder: str = "resnet18", augment: Mapping[str, Any] | None = None
) -> tuple[Modality, Read]:
    modality = Modality((1, frames, 128), encoder, standardise=(), dtype="float16", normalise=None)
    modality = augmented(modality, checked(augment or {}, SOUNDS, "a filter bank"), time_first=True)
    return modality, partial(_banked, rate=rate, frames=frames)


def _banked(file: media_file.Sound, *, rate: int, frames: int) -> NDArray[Any]:
    return spectra.filter_bank(sounds.sound(file, rate), rate, frames)


def _picture(shape: tuple[int, ...], encoder: str, augment: Mapping[str, Any]) -> Modality:
    """Return a modality of pictures of the last two axes of `shape`, stored larger where they are to be cropped."""
    size = shape[-1]
    stored = augment["crop"]["of"] if "crop" in augment else size
    if stored < size:
        raise UserError(f"`crop.of` must be at least the `size` {size}, but is {stored}.")
    modality = Modality(
        shape,
        encoder,
        stored=(*shape[:-2], stored, stored),
        dtype="uint8",
        unit=1 / 255,
        normalise=IMAGENET,
        evaluate=(("centre_crop", {"size": size}),) if stored > size else (),
    )
    return augmented(modality, augment)


def _image(
    size: int = 224, encoder: str = "resnet18", fit: pictures.Fit = "cover", augment: Mapping[str, Any] | None = None
) -> tuple[Modality, Read]:
    modality = _picture((3, size, size), encoder, checked(augment or {}, PICTURES, "an image"))
    return modality, partial(_seen, size=modality.stored[-1], fit=_fit(fit))


def _fit(fit: str) -> pictures.Fit:
    if fit not in ("cover", "squash"):
        raise UserError(f"`fit` must be cover or squash, but is `{fit}`.")
    return fit  # type: ignore[return-value]


def _seen(file: media_file.File, *, size: int, fit: pictures.Fit = "cover") -> NDArray[Any]:
    return pictures.clip([pictures.picture(file)], 1, (size, size), fit)[:, 0].copy()


def _frames(
    count: int = 3,
    size: int = 224,
    encoder: str = "resnet18",
    fit: pictures.Fit = "cover",
    augment: Mapping[str, Any] | None = None,
) -> tuple[Modality, Read]:
    modality = _picture((3, count, size, size), encoder, checked(augment or {}, PICTURES, "frames"))
    return modality, partial(_watched, count=count, size=modality.stored[-1], fit=_fit(fit))


def _watched(video: media_file.Seen, *, count: int, size: int, fit: pictures.Fit = "cover") -> NDArray[Any]:
    return pictures.clip(videos.middles(video, count), count, (size, size), fit)


def _text(length: int = 40, vocabulary: int = VOCABULARY, encoder: str = "text") -> tuple[Modality, Read]:
    modality = Modality((length,), encoder, {"vocabulary": vocabulary}, standardise=(), dtype="int32", normalise=None)
    return modality, partial(_read, length=length, vocabulary=vocabulary)


def _read(text: Any, *, length: int, vocabulary: int) -> NDArray[Any]:
    return hashed(words(text), length, vocabulary)


def _array(shape: list[int] | None = None, encoder: str = "mlp") -> tuple[Modality, Read]:
    if not shape:
        raise UserError("a column of kind `array` must have `shape`, but has not.")
    return Modality(tuple(shape), encoder, normalise="train"), partial(_loaded, shape=tuple(shape))


def _loaded(file: Any, *, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array in a .npy file, or numbers as they are."""
    try:
        values = load_array(file) if isinstance(file, bytes | Path) else np.asarray(file, dtype=np.float32)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise media_file.unreadable(file, f"it is no array of numbers ({str(error).partition(chr(10))[0]})") from error
    if values.dtype.kind not in "fiub":
        raise Unreadable(media_file.named(file), "it is no array of numbers")
    if values.shape != shape:
        raise Unreadable(media_file.named(file), f"its shape is {values.shape}, not {shape}")
    return values.astype(np.float32, copy=False)


def _numbers(encoder: str = "mlp") -> tuple[Modality, Read]:
    return Modality((1,), encoder, normalise="train"), _counted


def _counted(entries: tuple[Any, ...]) -> NDArray[Any]:
    try:
        return np.array([float(entry) for entry in entries], dtype=np.float32)
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
HEARD, LOOKED = ("spectrogram", "filter_bank"), ("image", "frames")


LEAST = {
    "rate": 1,
    "seconds": 0.001,
    "n_fft": 2,
    "hop": 1,
    "frames": 1,
    "count": 1,
    "size": 1,
    "length": 1,
    "vocabulary": 2,
}
"""Settings of kinds that are numbers, and the least that each may be."""
_SOUND = ("av", "soundfile", "soxr")
NEEDS: dict[str, tuple[str, ...]] = {
    "spectrogram": (*_SOUND, "scipy"),
    "filter_bank": (*_SOUND, "torchaudio"),
    "image": ("pillow",),
    "frames": ("av", "pillow"),
}
"""Kind of a modality -> the packages that reading it needs."""


def needs_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the packages that modalities need to be read, of their entries in a recipe."""
    return tuple(dict.fromkeys(name for entry in raw.values() for name in NEEDS.get(entry["kind"], ())))


def columns_of(entry: Any) -> tuple[str, ...]:
    """Return the columns that a modality comes from, of its entry in a recipe; none where there is no entry."""
    column = entry["column"] if isinstance(entry, Mapping) else ()
    return tuple(map(column_name, column)) if isinstance(column, list | tuple) else (column_name(column),)


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raise a `UserError` where a setting that is a number cannot be."""
    for key, least in LEAST.items():
        value = settings.get(key, least)
        wrong = isinstance(value, bool) or not isinstance(value, int | float) or not value >= least
        if wrong or (key != "seconds" and not isinstance(value, int)):
            what = "a number" if key == "seconds" else "a whole number"
            raise UserError(f"`{key}` must be {what} of at least {least:g}, but got `{value!s:.60}` (modality {name}).")


def column_of(name: str, entry: Any, decimal: str = ".", declared: Modality | None = None) -> Column:
    """Return a modality of a table from its entry in the recipe.

    Args:
        name: of the modality.
        entry: its `column`, `kind` and settings.
        decimal: the decimal sign of numbers in the table.
        declared: what a store says of it; pictures of earlier versions are stored larger than the entry says.

    Raises:
        UserError: its kind does not exist, or does not take its settings.
    """
    if not isinstance(entry, Mapping) or "column" not in entry:
        raise UserError(f"modality `{name}` of a recipe must have `column` and `kind`, but got {entry!r}.")
    settings = {key: value for key, value in entry.items() if key not in ("column", "kind")}
    kind = entry.get("kind")
    if kind not in KINDS:
        raise UserError(f"`kind` of modality `{name}` must be one of {', '.join(KINDS)}, but got `{kind}`.")
    if kind not in HEARD + LOOKED:
        checked(settings.pop("augment", None) or {}, (), f"modality `{name}` of kind {kind}")
    names = columns_of(entry)
    if len(names) > 1 and kind != "numbers":
        raise UserError(f"modality `{name}` must come from one column, because it is of kind {kind}, but got {names}.")
    _check_settings(name, settings)
    try:
        modality, read = KINDS[kind](**settings)
    except TypeError as error:
        reason = str(error).removeprefix(f"{KINDS[kind].__name__}() ")
        raise UserError(f"modality `{name}` of kind {kind} must take its settings, but: {reason}.") from error
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')} (modality {name}).") from error
    if kind == "numbers":
        modality = Modality((len(names),), modality.encoder, normalise="train")
    if too_large := exceeded("a sample takes", modality.nbytes, "BYTES", "bytes"):
        raise UserError(f"samples of modality `{name}` must be small enough to be read, but {too_large}.")
    if declared is not None and isinstance(read, partial) and "size" in read.keywords:
        read = partial(read.func, **{**read.keywords, "size": declared.stored[-1]})
    return Column(modality, names, kind, read, decimal)
