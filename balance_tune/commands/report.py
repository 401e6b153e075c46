"""balance-tune report: the leaderboard of a study, and its report as files."""

from __future__ import annotations

import argparse
import sys

from balance_tune.commands.arguments import format_option, root_option, study_argument, study_folder
from balance_tune.commands.output import print_json


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.studies.results import leaderboard, report, tables

    folder = study_folder(args)
    rows = leaderboard.build(folder)
    if args.format == "json":  # for programs: within a second, nothing written
        print_json([dict(row) for row in rows])
        return 0

    print(tables.as_text(rows))
    page = report.write(folder.path)
    (folder / "report").upload_all()
    print(f"The whole report: {folder.display_uri(f'report/{page.name}')}", file=sys.stderr)
    return 0
