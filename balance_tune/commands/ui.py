"""balance-tune ui: serves the MLflow UI on every trial under the root."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import root_of, root_option, study_folder


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, but got `{text[:20]}`")
    return int(text)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", nargs="?", help="open at this study's page (default: all studies)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=_port, default=5000, help="port to listen on, or the next free (default: 5000)")
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if args.study is not None:
        study_folder(args)
    from balance_tune.studies.tracking.page import ui

    return ui(root_of(args), args.study, host=args.host, port=args.port)
