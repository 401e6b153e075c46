"""Reads one array of numbers from a .npy file whose header is checked and not trusted."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from balance_tune.datasets import limits

HEADERS: dict[tuple[int, int], Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_array(file: Path | bytes) -> NDArray[Any]:
    """Return the array in a .npy file (a path, or the file's content): booleans, integers or floats.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no .npy file, holds other values, less than its header says, or more bytes than the limit.
    """
    size = len(file) if isinstance(file, bytes) else file.stat().st_size
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as opened:
        version = npy.read_magic(opened)
        if version not in HEADERS:
            raise ValueError(f"it is of version {version[0]}.{version[1]}")
        try:
            shape, fortran, dtype = HEADERS[version](opened)
        except Exception as error:  # the header is a Python literal, and its readers raise what they meet
            raise ValueError(f"its header is none ({type(error).__name__})") from error
        if dtype.kind not in "biuf":
            raise ValueError(f"it holds values of type {dtype}")
        wanted = math.prod(shape) * dtype.itemsize
        if reason := limits.too_many_bytes(wanted):
            raise ValueError(reason)
        if wanted != size - opened.tell():
            raise ValueError(f"its header says {wanted} bytes, and {size - opened.tell()} follow")
        values = np.frombuffer(opened.read(wanted), dtype=dtype)
    return values.reshape(shape, order="F" if fortran else "C")
