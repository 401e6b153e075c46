"""balance-tune methods: the methods there are, and what can be tuned in one."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, number, print_json

if TYPE_CHECKING:
    from balance_tune.modulations.base import Modulation


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="one method, in full")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.registry import modulations

    if args.name is not None:
        told = describe(modulations().get(args.name))
        print_json(told) if args.format == "json" else print(_in_full(told))
        return 0
    every = [describe(cls) for cls in modulations().classes().values()]
    if args.format == "json":
        print_json(every)
    else:
        print(columns(("method", "what it does", "paper"), [(m["name"], m["summary"], m["paper"]) for m in every]))
    return 0


def describe(cls: type[Modulation]) -> dict[str, Any]:
    """Return name, paper, docstring and hyperparameters (default, range or choices, scale, source) as plain data."""
    from balance_tune.studies.space import declared_method

    text = inspect.getdoc(cls) or ""
    hyperparameters = {}
    for name, declared in declared_method(cls).items():
        spec = declared.spec
        hyperparameters[name] = {
            "default": declared.default,
            "low": spec.low if spec else None,
            "high": spec.high if spec else None,
            "log": spec.log if spec else False,
            "choices": list(spec.choices) if spec and spec.choices is not None else None,
            "searched": declared.searched,
            "source": declared.source,
        }
    return {
        "name": cls.name,
        "paper": cls.paper,
        "summary": text.partition("\n")[0],
        "description": text,
        "hyperparameters": hyperparameters,
    }


def _in_full(told: dict[str, Any]) -> str:
    rows = []
    for name, h in told["hyperparameters"].items():
        span = ", ".join(map(str, h["choices"])) if h["choices"] is not None else "fixed unless a study says otherwise"
        if h["low"] is not None:
            span = f"{number(h['low'])} to {number(h['high'])}"
        scale = "log" if h["log"] else "linear" if h["low"] is not None else ""
        default = number(h["default"]) if type(h["default"]) in (int, float) else str(h["default"])
        rows.append((name, default, span, scale, h["source"]))
    table = columns(("hyperparameter", "default", "range", "scale", "source"), rows)
    return f"{told['name']}\n{told['paper']}\n\n{told['description']}\n\n{table}"
