"""balance-tune delete: removes a study: its folder, runs, artifacts and models, after asking."""

from __future__ import annotations

import argparse
import sys

from balance_tune.commands.arguments import root_option, study_argument, study_folder
from balance_tune.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    folder = study_folder(args)
    if not args.yes:
        if not sys.stdin.isatty():
            raise UserError("a removal must be confirmed, but there is no terminal to ask on; add --yes.")
        try:
            answer = input(f"Remove {folder.display_uri()} and its runs in MLflow? [y/N] ").strip().lower()
        except EOFError:  # Ctrl-D
            answer = ""
            print()
        if answer not in ("y", "yes"):
            print("Nothing was removed.")
            return 0
    from balance_tune.studies.deletion import delete_study

    for remark in delete_study(folder):
        print(remark)
    print(f"{folder.name} is removed. Stores of datasets are shared and stay in {folder.parent.display_uri('data')}.")
    return 0
