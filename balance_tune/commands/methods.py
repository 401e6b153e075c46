"""balance-tune methods: the methods there are, and what can be tuned in one."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, print_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="one method, in full")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.modulations.card import as_text, card
    from balance_tune.registry import modulations

    if args.name is not None:
        told = card(modulations().get(args.name))
        print_json(told) if args.format == "json" else print(as_text(told))
        return 0
    every = [card(cls) for cls in modulations().classes().values()]
    if args.format == "json":
        print_json(every)
    else:
        print(columns(("method", "what it does", "paper"), [(m["name"], m["summary"], m["paper"]) for m in every]))
    return 0
