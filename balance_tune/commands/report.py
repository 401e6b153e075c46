"""balance-tune report: prints the leaderboard of a study and writes its report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from balance_tune.commands.arguments import root_option, study_argument, study_folder
from balance_tune.commands.output import print_json

FORMATS = ("table", "json", "markdown", "latex")


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("ARM", "ARM"),
        help="compare two arms of a dataset, such as av_digits/mlb av_digits/opm",
    )
    root_option(parser)
    parser.add_argument(
        "-f", "--format", choices=FORMATS, default="table", help="format of the printed leaderboard (default: table)"
    )
    parser.add_argument("--figures", action="store_true", help="also write each figure of the report as SVG and PDF")


def run(args: argparse.Namespace) -> int:
    from balance_tune.studies.config import strict_yaml
    from balance_tune.studies.results import exports, latex, leaderboard, report, tables
    from balance_tune.studies.results.pairwise import compare_arms

    folder = study_folder(args)
    if args.compare is not None:
        pair = compare_arms(folder, *args.compare)
        print_json(asdict(pair)) if args.format == "json" else print(pair)
        return 0
    rows = leaderboard.build(folder)
    if args.format == "json":  # for programs: within a second, nothing written
        print_json([dict(row) for row in rows])
        return 0
    if args.format in ("markdown", "latex"):
        config = strict_yaml.read(folder.path / "study.yaml")
        print(tables.as_markdown(rows) if args.format == "markdown" else latex.as_latex(rows, config), end="")
        return 0

    print(tables.as_text(rows))
    page = report.write(folder.path, drawings=args.figures)
    exports.write(folder.path)
    (folder / "report").upload_all()
    print(f"The whole report: {folder.display_uri(f'report/{page.name}')}", file=sys.stderr)
    if args.figures:
        print(f"Figures: {folder.display_uri('report/figures')}", file=sys.stderr)
    return 0
