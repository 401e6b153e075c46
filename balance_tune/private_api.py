"""Guarded access to what other libraries do not promise to keep: private names are looked up here and nowhere else.

Each is for speed, or for an answer that no public name gives. Where a version of the library no longer has the name,
the caller takes the plain path, and the log says so once. `private_torch` has those of torch, `studies/private_apis`
those of Ray and Optuna.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


def private(module: str, name: str, otherwise: str) -> Any:
    """Return an attribute of a module of another library, or None where this version of it has none.

    Args:
        module: the module's full name.
        name: the attribute, with dots where it is one of a class.
        otherwise: what happens without it, for the log.
    """
    try:
        value: Any = import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError):
        report_missing(f"{module}.{name}", otherwise)
        return None
    return value


@cache
def report_missing(name: str, otherwise: str) -> None:
    """Log once that a private name is gone, and what happens without it."""
    import logging

    logging.getLogger(__name__).warning("This version has no `%s`: %s.", name, otherwise)
