"""Reads a pickle of arrays and plain containers without executing or building anything else that it asks for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import pickle_process
from balance_tune.errors import UserError

MEMORY = 2**28
"""Bytes of address space that the reading process may take beside four times the file's size."""
SECONDS = 60
"""Seconds of processor time that it may take beside one for every 10 MB."""


def read_arrays(path: Path) -> Any:
    """Return what a pickle holds, if it holds arrays, numbers, text and containers of these alone.

    A process with limits of memory and time reads the file, without numpy, and answers with plain data; the arrays are
    built here from types and shapes that were checked. Arrays of objects become lists.

    Args:
        path: the file; it is read by a process of its own (30 ms), which holds it in memory while it answers.

    Returns:
        What was pickled: arrays in this machine's byte order, `str` for text of Python 2.

    Raises:
        UserError: it holds anything else, which has not been executed, or is damaged.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            limits = [str(MEMORY + 4 * size), str(SECONDS + size // 10_000_000)]
            command = [sys.executable, "-I", "-S", pickle_process.__file__, *limits]
            with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                try:
                    answer = _answer(process.stdout, size)
                finally:
                    process.kill()  # it has answered, or is not to be believed
                    process.wait()
                if answer is None:
                    raise ValueError(_end(process.returncode))
    except (OSError, ValueError, TypeError, KeyError, IndexError, MemoryError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"a pickle must hold arrays, numbers and text and nothing to execute, but {path} cannot be read: {reason}; "
            "nothing of it was executed."
        ) from error
    return answer.value


def _answer(stream: IO[bytes], size: int) -> _Value | None:
    """Return the value that a process read from a file of `size` bytes; None where its answer is not whole."""
    length = int.from_bytes(stream.read(8), "little")
    if not 0 < length <= 2**26 + 8 * size:
        return None
    text = stream.read(length)
    if len(text) < length:
        return None
    header = json.loads(text)
    if "error" in header:
        raise ValueError(_printable(str(header["error"])))
    arrays = []
    for name, shape, order, count in header["buffers"]:
        array = _array(stream, np.dtype(name), tuple(shape), order, count)
        if array is None:
            return None
        arrays.append(array)
    return _Value(_built(header["value"], arrays))


class _Value:
    """A value that was read; it may be None."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _array(stream: IO[bytes], dtype: Any, shape: tuple[int, ...], order: Any, count: int) -> NDArray[Any] | None:
    raw = np.empty(count, dtype=np.uint8)
    if stream.readinto(raw.data) < count:  # type: ignore[attr-defined]
        return None
    if dtype.kind == "U" and count and raw.view("<u4" if dtype.byteorder != ">" else ">u4").max() > sys.maxunicode:
        raise ValueError("it holds text that is none")
    values: NDArray[Any] = raw != 0 if dtype.kind == "b" else raw.view(dtype)
    array: NDArray[Any] = values.reshape(shape, order=order).astype(dtype.newbyteorder("="), copy=False)
    return array


def _built(node: Any, arrays: list[NDArray[Any]]) -> Any:
    if not isinstance(node, list):
        return node
    kind, value = node
    if kind == "dict":
        return {_built(k, arrays): _built(v, arrays) for k, v in value}
    if kind in ("list", "tuple"):
        items = [_built(v, arrays) for v in value]
        return items if kind == "list" else tuple(items)
    array = arrays[value]
    if kind == "bytes":
        return array.tobytes()
    return array[()] if kind == "scalar" else array


def _end(status: int) -> str:
    if status >= 0:
        return f"its reader ended with status {status}"
    name = signal.Signals(-status).name
    if name == "SIGXCPU":
        return "reading it takes too long"
    return f"its reader was ended by {name}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
