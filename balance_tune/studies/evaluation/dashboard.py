"""Serves Optuna's own dashboard on a study's journal, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from balance_tune.errors import UserError
from balance_tune.studies.signals import LOOK_EVERY, EndRequest
from balance_tune.studies.storage.records import open_to_read
from balance_tune.studies.tracking.page import free_port


def dashboard(folder: Path, *, host: str, port: int) -> int:
    """Serve until asked to end, after printing the address; return 0.

    Raises:
        UserError: optuna-dashboard is not installed, or the study has not begun.
    """
    if find_spec("optuna_dashboard") is None:
        raise UserError("Optuna's dashboard must be installed for --optuna, but is not: pip install optuna-dashboard.")
    import optuna
    from optuna_dashboard import wsgi

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_to_read(folder)
    with (
        make_server(host, free_port(host, port), wsgi(storage), handler_class=_Quiet) as server,
        EndRequest() as request,
    ):
        print(
            f"Optuna shows {folder.name} at http://{host}:{server.server_port}/dashboard (Ctrl-C ends it)", flush=True
        )
        server.timeout = LOOK_EVERY
        while not request.requested:
            server.handle_request()
        print()
    return 0


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no request."""
