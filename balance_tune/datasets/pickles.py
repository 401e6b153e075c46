"""Reads a pickle of arrays and plain containers without executing anything else that it asks for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError

ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
}
"""What the pickles of numpy's arrays name; they build arrays of numbers and text, and call nothing."""


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 2's bytes come
            return _encoded
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for something outside of it")


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


def read_arrays(path: Path) -> Any:
    """Return what a pickle holds, if it holds arrays, numbers, text and containers of these alone.

    Raises:
        UserError: it holds anything else, which has not been executed, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Arrays(file, encoding="latin1").load()
    except Exception as error:  # whatever a damaged or hostile pickle makes of the unpickler
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"a pickle must hold arrays, numbers and text and nothing to execute, but {path} cannot be read: {reason}; "
            "nothing of it was executed."
        ) from error
