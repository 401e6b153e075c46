"""A file of sound, pictures or video, or its content; whatever is wrong with one is `Unreadable` with a reason."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.named_file import unusable
from balance_tune.datasets.pointers import what_it_is
from balance_tune.errors import UserError

File = Path | bytes
"""A file, or what is in one."""
Sound = File | NDArray[np.float32]
"""... or a waveform (samples,) that is at the rate asked for."""
Seen = File | Sequence[bytes]
"""... or several pictures' files, in order."""


def named(file: Sound | Seen) -> Path | str:
    """Return what a message calls a file."""
    return file if isinstance(file, Path) else "the file"


def beginning(file: Any, size: int = 512) -> bytes:
    """Return the first bytes of a file; none where it cannot be read."""
    if isinstance(file, bytes):
        return file[:size]
    try:
        if not Path(file).is_file():
            return b""
        with Path(file).open("rb") as opened:
            return opened.read(size)
    except (OSError, TypeError, ValueError):  # the caller has failed to read it, and says why
        return b""


def unreadable(file: Any, reason: str) -> Unreadable:
    """Return the error for a file that cannot be used: what it is where it is something else, else `reason`."""
    name = file.name if isinstance(file, Path) else ""
    if isinstance(file, Path) and unusable(file) is None and file.is_dir():
        return Unreadable(file, "it is a folder, not a file")
    return Unreadable(named(file), what_it_is(name, beginning(file)) or reason)


def refuse(file: File, reason: str | None) -> None:
    """Raise `Unreadable` where there is a reason, such as a limit that is exceeded."""
    if reason is not None:
        raise Unreadable(named(file), reason)


def readable(file: File) -> Any:
    """Return a file as the libraries that decode it open it: its path as text, or its content as a stream.

    Raises:
        Unreadable: it is neither.
    """
    if not isinstance(file, Path | bytes):
        raise Unreadable(named(file), f"it is of type {type(file).__name__}")
    return str(file) if isinstance(file, Path) else io.BytesIO(file)


def extra(name: str) -> Any:
    """Return a module of the extra `data`, or say how to install it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"preparing data needs `{name}`, but it is not installed: pip install 'balance_tune[data]'."
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of a message, the same in every process: without addresses of memory."""
    text = re.sub(r"'?<(_io\.BytesIO object at 0x[0-9a-f]+|none)>'?", "the file", str(error)).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
