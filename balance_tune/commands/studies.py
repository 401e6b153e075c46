"""balance-tune studies: lists the study files that ship with the package, or prints one."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import format_option
from balance_tune.commands.output import columns, print_json
from balance_tune.errors import UserError
from balance_tune.studies.wording import did_you_mean, shown


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the study file to print")
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.studies.config.shipped import shipped_studies, summary

    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped_studies().items()}
    if args.name is not None:
        if args.name not in texts:
            raise UserError(
                f"a study must ship with balance_tune to be printed, but {shown(args.name)} does not."
                f"{did_you_mean(args.name, texts)}"
            )
        text = texts[args.name]
        print_json({"name": args.name, "text": text}) if args.format == "json" else print(text, end="")
        return 0
    rows = [(name, summary(text)) for name, text in texts.items()]
    if args.format == "json":
        print_json([{"name": name, "summary": words} for name, words in rows])
    else:
        print(columns(("study", "what it compares"), rows))
    return 0
