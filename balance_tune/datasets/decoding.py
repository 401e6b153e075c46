"""From what a user has (the bytes of a file, words, a waveform) to a sample as preparation stores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.base import Dataset
from balance_tune.errors import UserError


class Unreadable(Exception):
    """A sample whose file cannot be used: it is recorded with the reason, and left out."""

    def __init__(self, file: Path | str, reason: str) -> None:
        reason = reason.replace(str(file), Path(file).name)  # decoders repeat the path, which is of this machine
        super().__init__(str(file), reason)
        self.file, self.reason = str(file), reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def words(raw: Any, what: str = "a text") -> str:
    """Return `raw`, which must be words; `what` they are is for the message."""
    if not isinstance(raw, str):
        raise Unreadable("the text", f"{what} is words, and it is of type {type(raw).__name__}")
    return raw


class Decoding(Dataset):
    """A dataset whose samples are made of files, in its preparation and for its models alike."""

    waveforms: ClassVar[tuple[str, ...]] = ("audio",)
    """The modalities that a user may have as a waveform (samples,), at the rate that preparation brings sound to."""
    needs: ClassVar[tuple[str, ...]] = ("av", "pillow", "scipy", "soundfile", "soxr", "torchaudio")

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Return one modality of a sample as it is to be stored, from a file (a path, or its bytes), words, ...

        Raises:
            Unreadable: `raw` cannot be used.
        """
        raise Unreadable("the file", f"dataset `{self.name}` decodes none")

    def decode(self, modality: str, raw: Any) -> NDArray[np.float32]:
        """Take what `sample` takes, a waveform of one of `waveforms`, or numbers as they are stored."""
        rank = _rank(raw)
        if rank == 1 and modality in self.waveforms:
            raw = np.asarray(raw, dtype=np.float32)
        elif rank is not None:
            return self.shaped(modality, raw)
        try:
            decoded = self.sample(modality, bytes(raw) if isinstance(raw, bytearray) else raw)
        except Unreadable as error:
            raise UserError(f"`{modality}` must be such as `{self.name}` has, but {error}.") from error
        return self.shaped(modality, decoded)


def _rank(raw: Any) -> int | None:
    """Return how many axes an array of numbers has; None of anything else, 0 of what is no array."""
    if isinstance(raw, bytes | bytearray | str | Path | Mapping):
        return None
    if isinstance(raw, Sequence) and raw and isinstance(raw[0], bytes | bytearray):
        return None
    try:
        return np.ndim(raw)
    except ValueError:  # lists of unequal length
        return 0
