"""balance-tune methods: lists the methods, or describes one with its hyperparameters."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, print_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the method to describe")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.commands.cards import cards
    from balance_tune.modulations.card_text import as_text
    from balance_tune.registry import unknown

    every = cards()
    if args.name is not None:
        card = next((c for c in every if c["name"] == args.name), None)
        if card is None:
            raise unknown("method", args.name, [c["name"] for c in every])
        print_json(card) if args.format == "json" else print(as_text(card))
    elif args.format == "json":
        print_json(every)
    else:
        print(columns(("method", "what it does", "paper"), [(m["name"], m["summary"], m["paper"]) for m in every]))
    return 0
