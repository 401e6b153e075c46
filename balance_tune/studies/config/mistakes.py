"""Translates pydantic's errors about a study file into one line for the user."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError

from balance_tune.studies.wording import nearest, shown

_RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "settings as `key: value`",
    "model_type": "settings as `key: value`",
    "tuple_type": "a list, as `[a, b]`",
    "too_short": "a list of at least one name",
    "too_long": "a list of at most 1000 names",
    "string_too_short": "a name",
    "string_too_long": "a name of at most 200 characters",
}
_BOUNDS = {"greater_than_equal": ("ge", "at least"), "greater_than": ("gt", "above")} | {
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def sentence(failed: ValidationError, schema: type[BaseModel]) -> str:
    """Return what is wrong with a file of this schema: rule, value, and the nearest setting that exists."""
    errors = failed.errors(include_url=False)
    unknown = [
        e for e in errors if e["type"] == "extra_forbidden"
    ]  # an unknown `dataset:` explains more than "no datasets"
    error = (unknown or errors)[0]
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"`{where}` must be given, but is not; a study needs at least name, datasets and methods."
    if kind == "extra_forbidden":
        return _unknown(error["loc"], schema)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        near = nearest(value, allowed) if isinstance(value, str) else None
        hint = f" Did you mean `{near}`?" if near else ""
        return f"`{where}` must be one of {', '.join(allowed)}, but got {shown(value)}.{hint}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"`{where}` must be {words} {int(context[key])}, but got {shown(value)}."
    if kind in _RULES:
        return f"`{where}` must be {_RULES[kind]}, but got {shown(value)}."
    return f"`{where}` is refused, but got {shown(value)}: {error['msg']}."


def _unknown(loc: tuple[int | str, ...], schema: type[BaseModel]) -> str:
    """Return the sentence for a setting that does not exist: the nearest of its section, else of the whole file."""
    name, section = str(loc[-1]), ".".join(map(str, loc[:-1]))
    paths = {path.rpartition(".")[::2]: path for path in _paths(schema)}  # (section, last name) -> path
    here = [last for owner, last in paths if owner == section]
    near = nearest(name, here)
    anywhere = nearest(name, [last for _, last in paths])
    owner = f"of `{section}`" if section else "of a study"
    if near is not None:
        return f"{shown(name)} is not a setting {owner}. Did you mean `{paths[section, near]}`?"
    if anywhere is not None:
        path = next(path for (_, last), path in paths.items() if last == anywhere)
        return f"{shown(name)} is not a setting {owner}. Did you mean `{path}`?"
    there = f" There are: {', '.join(here)}." if here else ""
    return f"{shown(name)} is not a setting {owner}.{there}"


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
