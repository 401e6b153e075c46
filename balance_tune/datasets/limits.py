"""How large a file may be that is decoded: pixels, seconds, frames and bytes, against files made to fill the memory.

Each limit has an environment variable (docs/data.md has the table). A file beyond a limit is `Unreadable`: preparation
records it with the reason and leaves it out, `evaluate` and a served model answer with one line.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from balance_tune.errors import UserError

DEFAULTS = {"PIXELS": 50_000_000, "SECONDS": 1200, "FRAMES": 120_000, "BYTES": 2**29}
"""Pixels of a picture or frame, seconds of a sound or video, frames of a video, bytes of what is decoded at a time."""
_PREFIX = "BALANCE_TUNE_MAX_"


def limit(name: str) -> int:
    """Return the limit called `name`, one of `DEFAULTS`.

    Raises:
        UserError: its environment variable is no positive number.
    """
    text = os.environ.get(_PREFIX + name)
    if text is None:
        return DEFAULTS[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < 2**53:  # false of NaN too
        raise UserError(f"{_PREFIX}{name} must be a number of at least 1, but is `{text}`.")
    return int(value)


def exceeded(what: str, value: float, name: str, unit: str) -> str | None:
    """Return why a value is beyond the limit called `name`, or None.

    Args:
        what: the subject of the sentence, as "the picture has".
        value: what the file declares, or what has been decoded so far.
        name: one of `DEFAULTS`.
        unit: what is counted, in the plural.
    """
    most = limit(name)
    if not value > most:
        return None
    return f"{what} {value:,.0f} {unit}, more than {most:,} ({_PREFIX}{name} changes the limit)"


def too_large_picture(width: int, height: int) -> str | None:
    """Return why a picture or a frame of this size is not decoded, or None."""
    return exceeded(f"it is {width} x {height}:", width * height, "PIXELS", "pixels")


def too_long_sound(samples: int, rate: int, channels: int) -> str | None:
    """Return why a sound (samples per channel, at `rate` Hz) is not decoded, or None."""
    if rate < 1 or channels < 1 or samples < 0:
        return f"it declares {samples} samples of {channels} channels at {rate} Hz"
    return exceeded("it lasts", samples / rate, "SECONDS", "seconds") or exceeded(
        "its sound takes", samples * channels * 4, "BYTES", "bytes"
    )


def too_long_video(seconds: float, frames: int) -> str | None:
    """Return why a video that lasts so long, or of which so many frames were decoded, is not decoded further."""
    return exceeded("it lasts", seconds, "SECONDS", "seconds") or exceeded("it has", frames, "FRAMES", "frames")


def too_many_bytes(count: int) -> str | None:
    """Return why so many bytes of decoded values are not kept at a time, or None."""
    return exceeded("what is decoded of it takes", count, "BYTES", "bytes")


def too_large_file(file: Path | bytes) -> str | None:
    """Return why a file that is read into memory whole is not read, or None."""
    size = len(file) if isinstance(file, bytes) else file.stat().st_size
    return exceeded("it has", size, "BYTES", "bytes")
