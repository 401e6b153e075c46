"""balance-tune datasets: lists the datasets, or describes one."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, print_json

if TYPE_CHECKING:
    from balance_tune.datasets.base import Dataset


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the dataset to describe")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.registry import datasets

    if args.name is not None:
        description = describe(datasets().get(args.name))
        print_json(description) if args.format == "json" else print(_in_full(description))
        return 0
    every = [describe(cls) for cls in datasets().classes().values()]
    if args.format == "json":
        print_json(every)
        return 0
    rows = [(d["name"], ", ".join(d["modalities"]), str(len(d["classes"])), d["split"]["kind"]) for d in every]
    print(columns(("dataset", "modalities", "classes", "split"), rows, right=[2]))
    return 0


def describe(cls: type[Dataset]) -> dict[str, Any]:
    """Return what a dataset declares about itself as plain data; nothing is read."""
    return {
        "name": cls.name,
        "version": cls.version,
        "description": inspect.getdoc(cls) or "",
        "modalities": {
            name: {"shape": list(m.shape), "encoder": m.encoder, "settings": dict(m.settings)}
            for name, m in cls.modalities.items()
        },
        "classes": list(cls.classes),
        "split": dataclasses.asdict(cls.split),
        "recipe": {name: {"value": value, "source": source} for name, (value, source) in cls.recipe.items()},
        "licence": cls.licence,
        "source": cls.source,
        "limits": list(cls.limits),
    }


def _in_full(description: dict[str, Any]) -> str:
    modalities = [(n, " x ".join(map(str, m["shape"])), m["encoder"]) for n, m in description["modalities"].items()]
    recipe = [(name, str(entry["value"]), entry["source"]) for name, entry in description["recipe"].items()]
    parts = [
        f"{description['name']} (version {description['version']})",
        description["description"],
        columns(("modality", "shape", "encoder"), modalities),
        f"Classes: {', '.join(description['classes'])}\nSplit: {_split(description['split'])}",
        columns(("training recipe", "value", "source"), recipe) if recipe else "",
        f"Licence: {description['licence']}\nSource: {description['source']}",
        "Known limits:\n" + "\n".join(f"- {limit}" for limit in description["limits"]) if description["limits"] else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _split(split: dict[str, Any]) -> str:
    if split["kind"] == "official":
        return "official"
    shares = ", ".join(f"{part} {100 * split[part]:.3g} %" for part in ("train", "monitor", "val", "test"))
    return f"{split['kind']}, {shares}, seed {split['seed']}"
