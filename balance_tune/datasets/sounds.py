"""Decoding of sound."""

from __future__ import annotations

import math
import struct
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import limits
from balance_tune.datasets.containers import COMPLETE, check_whole, opened
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.media_file import (
    File,
    Sound,
    beginning,
    extra,
    first_line,
    named,
    readable,
    refuse,
    unreadable,
)

SOUNDS = (".wav", ".flac", ".ogg")
"""What soundfile reads; all else goes through PyAV."""


def sound(source: Sound, rate: int) -> NDArray[np.float32]:
    """Return a file's sound as mono (samples,) at `rate` Hz, as librosa.load does: mean of channels, soxr HQ.

    Raises:
        Unreadable: the file is missing or broken, has no sound, is silent throughout, or is beyond a limit.
    """
    if isinstance(source, np.ndarray):
        values, native = source[:, None], rate
    else:
        values, native = _soundfile(source) if _is_sound(source) else _av_sound(source)
    if not len(values):
        raise Unreadable(named(source), "it has no sound")
    mono = values.mean(axis=1, dtype=np.float32) if values.shape[1] > 1 else values[:, 0]
    if not np.isfinite(mono).all():
        raise Unreadable(named(source), "its sound has values that are not finite")
    if not mono.any():
        raise Unreadable(named(source), "it is silent")
    return resampled(mono, native, rate)


def _is_sound(file: Any) -> bool:
    """Whether soundfile should read it: by its content, and where that does not decide by its ending."""
    start = beginning(file, 12)
    if start[:4] in (b"fLaC", b"OggS") or (start[:4] == b"RIFF" and start[8:12] == b"WAVE"):
        return True
    other = start[4:8] == b"ftyp" or start[:3] == b"ID3" or start[:4] in (b"\x1aE\xdf\xa3", b"FLV\x01")
    return isinstance(file, Path) and file.suffix.lower() in SOUNDS and not other


def resampled(mono: NDArray[np.float32], native: int, rate: int) -> NDArray[np.float32]:
    """Return sound at another rate, ceil(samples * rate / native) of it.

    Args:
        mono: (samples,).
        native: its rate in Hz.
        rate: the wanted rate in Hz.
    """
    if native == rate:
        return mono
    soxr = extra("soxr")
    length = math.ceil(len(mono) * rate / native)
    resampled_mono: NDArray[np.float32] = soxr.resample(mono, native, rate, quality="HQ")[:length]
    return np.pad(resampled_mono, (0, length - len(resampled_mono)))


def _soundfile(file: File) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(readable(file)) as opened:
            refuse(file, limits.too_long_sound(opened.frames, opened.samplerate, opened.channels))
            native, declared = opened.samplerate, max(opened.frames, _wav_frames(file))
            values = opened.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable(file, f"it is no readable sound file ({first_line(error)})") from error
    if len(values) < COMPLETE * declared:
        raise Unreadable(
            named(file), f"it is cut off: {len(values) / native:.1f} s of {declared / native:.1f} s can be decoded"
        )
    return values, native


def _wav_frames(file: File) -> int:
    """Return how many frames the header of a WAV file declares; 0 of another file, or where it does not know."""
    start = beginning(file, 2**16)
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        return 0
    place, frame = 12, 0
    while place + 8 <= len(start):
        name, size = struct.unpack_from("<4sI", start, place)
        if name == b"fmt " and place + 22 <= len(start):
            (frame,) = struct.unpack_from("<H", start, place + 20)
        if name == b"data":  # writers that cannot go back leave 0 or a very large number
            return size // frame if frame and 0 < size < 0x7FFF0000 else 0
        place += 8 + size + size % 2
    return 0


def _av_sound(file: File) -> tuple[NDArray[np.float32], int]:
    with opened(file) as container:
        if not container.streams.audio:
            raise unreadable(file, "it has no sound track")
        stream = container.streams.audio[0]
        native = int(stream.rate)
        resampler = extra("av").AudioResampler(format="fltp", layout=stream.layout, rate=native)
        blocks: list[NDArray[np.float32]] = []
        frames = length = 0
        for frame in chain(container.decode(stream), [None]):
            frames += frame is not None
            for out in resampler.resample(frame):
                blocks.append(out.to_ndarray())
                length += blocks[-1].shape[1]
                refuse(file, limits.too_long_sound(length, native, len(blocks[-1])))
        if not blocks:
            raise Unreadable(named(file), "it has no sound")
        check_whole(file, container, stream, frames, length / native)
    return np.concatenate(blocks, axis=1).T.astype(np.float32, copy=False), native
