"""balance-tune fusions and balance-tune encoders: lists the parts of models, or describes one."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, print_json

GIVEN = ("self", "shape", "widths", "classes")  # what the study gives; the rest are settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the one to describe")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.registry import encoders, fusions

    registry = fusions() if args.command == "fusions" else encoders()
    if args.name is not None:
        description = describe(registry.get(args.name))
        print_json(description) if args.format == "json" else print(_in_full(description))
        return 0
    every = [describe(cls) for cls in registry.classes().values()]
    if args.format == "json":
        print_json(every)
    else:
        print(columns((registry.kind, "what it is"), [(p["name"], p["summary"]) for p in every]))
    return 0


def describe(cls: type[Any]) -> dict[str, Any]:
    """Return name, docstring and settings (argument -> default; None where it has none) as plain data.

    Of an encoder also `inputs`: the shapes it takes, as names of axes; none: any.
    """
    text = inspect.getdoc(cls) or ""
    settings = {
        name: _plain(argument.default)
        for name, argument in inspect.signature(cls).parameters.items()
        if name not in GIVEN and argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL)
    }
    description = {"name": cls.name, "summary": text.partition("\n")[0], "description": text, "settings": settings}
    axes = getattr(cls, "axes", None)
    return description if axes is None else {**description, "inputs": [list(names) for names in axes]}


def _plain(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, tuple | list):
        return [_plain(item) for item in default]
    return default if default is None or isinstance(default, bool | int | float | str) else repr(default)


def _in_full(description: dict[str, Any]) -> str:
    settings = [(name, str(default)) for name, default in description["settings"].items()]
    table = columns(("setting", "default"), settings) if settings else "It has no settings."
    inputs = " or ".join(f"({', '.join(names)})" for names in description.get("inputs", ())) or "any shape"
    shapes = f"One sample's input: {inputs}.\n\n" if "inputs" in description else ""
    return f"{description['name']}\n\n{description['description']}\n\n{shapes}{table}"
