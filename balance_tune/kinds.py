"""Whether what was read from a JSON file is of the annotated types, down to the last entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfit(value: Any, hint: Any, where: str = "it") -> str | None:
    """Return what in `value` is not of the type `hint`, in words; None where all is.

    Known are plain types, dataclasses, lists, tuples, mappings, unions and literals. A whole number is a float too.
    """
    if hint is Any:
        return None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        misfits = [misfit(value, one, where) for one in arguments]
        return None if None in misfits else misfits[0]
    if origin is Literal:
        return None if value in arguments else _words(value, f"one of {', '.join(map(str, arguments))}", where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):
            return _words(value, hint.__name__, where)
        return _first(misfit(getattr(value, n), t, f"{where}.{n}") for n, t in _fields(hint).items())
    plain = origin or hint
    kinds: Any = (float, int) if plain is float else plain
    if not isinstance(value, kinds) or (isinstance(value, bool) and plain is not bool):
        return _words(value, getattr(plain, "__name__", str(plain)), where)
    if isinstance(value, Mapping):
        key, entry = arguments or (Any, Any)
        return _first(misfit(k, key, f"a key of {where}") or misfit(v, entry, f"{where}.{k}") for k, v in value.items())
    if isinstance(value, tuple) and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return f"{where} has {len(value)} entries, not {len(arguments)}"
        return _first(misfit(v, t, f"{where}[{i}]") for i, (v, t) in enumerate(zip(value, arguments, strict=True)))
    if isinstance(value, list | tuple) and arguments:
        return _first(misfit(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
    return None


def _first(misfits: Any) -> str | None:
    return next((words for words in misfits if words), None)


def _words(value: Any, wanted: str, where: str) -> str:
    return f"{where} is {value!r:.40}, not {wanted}"


@cache
def _fields(cls: type) -> dict[str, Any]:
    return {f.name: get_type_hints(cls)[f.name] for f in dataclasses.fields(cls)}
