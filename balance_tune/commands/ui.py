"""balance-tune ui: serves the MLflow UI on every trial under the root, or Optuna's dashboard on one study."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import root_of, root_option, study_folder
from balance_tune.errors import UserError


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, but got `{text[:20]}`")
    return int(text)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", nargs="?", help="open at this study's page (default: all studies)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=_port, default=5000, help="port to listen on, or the next free (default: 5000)")
    parser.add_argument("--optuna", action="store_true", help="Optuna's dashboard on STUDY instead")
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until asked to end, by Ctrl-C or SIGTERM; then nothing of the server is left."""
    folder = study_folder(args) if args.study is not None else None
    if args.optuna:
        from balance_tune.studies.evaluation.dashboard import dashboard

        if folder is None:
            raise UserError("Optuna's dashboard shows one study, but none was named: balance-tune ui STUDY --optuna.")
        return dashboard(folder.path, host=args.host, port=args.port)
    from balance_tune.studies.tracking.page import ui

    return ui(root_of(args), args.study, host=args.host, port=args.port)
