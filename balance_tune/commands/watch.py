"""balance-tune watch: serves the report of a study that runs, or has ended, and keeps it up to date."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import port_option, root_option, study_argument, study_folder

EVERY = 10  # seconds


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    port_option(parser, 5100)
    parser.add_argument(
        "--every", type=_seconds, metavar="SECONDS", default=EVERY, help=f"time between two updates (default: {EVERY})"
    )
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM ends it."""
    from balance_tune.commands.live_report import LiveReport, serve

    study_folder(args)  # a wrong name ends here
    return serve(LiveReport(lambda: study_folder(args), args.every), args.study, args.port)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of seconds from 1 on, but got `{text[:20]}`")
    return int(text)
