"""balance-tune init: writes a new study file that has every key with its meaning."""

from __future__ import annotations

import argparse
from pathlib import Path

from balance_tune.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study; the file is NAME.yaml in this folder")


def run(args: argparse.Namespace) -> int:
    """Write the file; one that exists is never overwritten."""
    from balance_tune.studies.config.schema import study_name
    from balance_tune.studies.config.template import template

    try:
        name = study_name(args.name, "NAME")
    except ValueError as error:
        raise UserError(str(error)) from None
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(name))
    except FileExistsError:
        raise UserError(f"a new study file must not exist yet, but `{path}` does; give another name.") from None
    print(f"{path} has every key with its meaning and default.\nNext: balance-tune plan {path}")
    return 0
