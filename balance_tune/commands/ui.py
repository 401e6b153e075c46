"""balance-tune ui: serves the MLflow UI on every trial under the root, or Optuna's dashboard on one study."""

from __future__ import annotations

import argparse

from balance_tune.commands.arguments import port_option, root_of, root_option, study_folder
from balance_tune.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", nargs="?", help="the study whose page is printed (default: all studies)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    port_option(parser, 5000)
    parser.add_argument("--optuna", action="store_true", help="serve Optuna's dashboard of STUDY instead")
    root_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM ends it; no process of the server is left then."""
    folder = study_folder(args) if args.study is not None else None
    if args.optuna:
        from balance_tune.studies.evaluation.dashboard import dashboard

        if folder is None:
            raise UserError("Optuna's dashboard shows one study, but none was named: balance-tune ui STUDY --optuna.")
        return dashboard(folder.path, host=args.host, port=args.port)
    from balance_tune.studies.tracking.page import ui

    return ui(root_of(args), args.study, host=args.host, port=args.port)
