"""Serves the MLflow pages of a root on this machine and prints the address of a study's page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from balance_tune.errors import UserError
from balance_tune.studies.signals import LOOK_EVERY, EndRequest
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, client_of_store, store_of
from balance_tune.studies.tracking.runs import TAG
from balance_tune.studies.tracking.view import KEY, VIEW

HOST = "127.0.0.1"
PORT = 5000
TRAINING = "workflowType=machine_learning"  # else MLflow's pages show what concerns language models
OLDEST_FIRST = "orderByKey=attributes.start_time&orderByAsc=true"  # the study's run, its arms, then their trials
TOGETHER = 50  # experiments whose runs MLflow lists on one page, so that the address stays short
READY_WITHIN = 120.0  # seconds


def ui(root: StudyFolder | Path, study: str | None = None, *, host: str = HOST, port: int = PORT) -> int:
    """Serve the store of `root` until a signal comes, after printing the address of the (study's) page; return 0.

    Ctrl-C and SIGTERM end it; further signals change nothing (`make` repeats them). Where the store is a
    server already, only the address is printed. The next free port is taken when `port` is not.

    Raises:
        UserError: there is no such study in MLflow, or nothing was recorded yet.
    """
    root = StudyFolder.of(root)
    store = store_of(root, _store_setting(root.path, study))
    if store.file and not store.file.is_file():
        raise UserError(f"MLflow shows what was recorded, but there is no {store.file}; `balance-tune run` makes one.")
    page = _page(store, study)
    if store.served:
        print(f"{store.shown.rstrip('/')}/{page}")
        return 0
    port = free_port(host, port)
    address = f"http://{host}:{port}"
    settings = {  # by environment, because everyone on the machine can read a command line
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_REGISTRY_STORE_URI": store.uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str(store.artifacts),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for pages of generated text; halves the start
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    with EndRequest() as request:
        server = subprocess.Popen(
            [*command, "--uvicorn-opts", "--log-level warning"],
            env={**os.environ, **settings},
            start_new_session=True,  # so that its workers end with it, and not by our Ctrl-C alone
        )
        try:
            if _answers(server, address, request):
                print(f"MLflow shows {study or 'every study'} at {address}/{page} (Ctrl-C ends it)", flush=True)
            while not request.requested and server.poll() is None:
                time.sleep(LOOK_EVERY)
        finally:
            _end(server)
    if not request.requested:
        print(f"balance-tune: the MLflow server ended by itself, with status {server.returncode}", file=sys.stderr)
        return 1
    print()  # behind the terminal's ^C
    return 0


def _store_setting(root: Path, study: str | None) -> str | None:
    if study is None:
        return None
    from balance_tune.studies.config.reader import stored_config

    folder = root / study
    if not (folder / "study.yaml").is_file():
        raise UserError(f"a study must exist to be shown, but there is no {folder / 'study.yaml'}.")
    return stored_config(folder).mlflow.tracking_uri


def _page(store: Store, study: str | None) -> str:
    """Return the page that lists runs: of one study, or of all studies of a root."""
    if study is None and store.served:  # others may have experiments there; it need not answer
        return f"#/experiments?{TRAINING}"
    with client_of_store(store) as client:
        if study is None:
            studies = client.search_experiments(filter_string=f"tags.`{TAG}kind` = 'study'")
        else:
            studies = [one for one in [client.get_experiment_by_name(study)] if one is not None]
    if study is not None and not studies:
        raise UserError(f"MLflow at {store.shown} must know the study to show it, but has no experiment `{study}`.")
    ids = sorted((str(one.experiment_id) for one in studies), key=int)
    if len(ids) == 1:
        view = f"viewStateShareKey={KEY}" if VIEW in studies[0].tags else OLDEST_FIRST  # an older study has no view
        return f"#/experiments/{ids[0]}/runs?{TRAINING}&{view}"
    if 1 < len(ids) <= TOGETHER:
        several = quote(json.dumps(ids, separators=(",", ":")))
        return f"#/compare-experiments/s?experiments={several}&{TRAINING}&{OLDEST_FIRST}"
    return f"#/experiments?{TRAINING}"


def free_port(host: str, port: int) -> int:
    """Return `port`, or the next one that is free."""
    for candidate in range(port, port + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise UserError(f"a port from {port} to {port + 99} must be free on {host}, but none is; give another.")


def _answers(server: subprocess.Popen[bytes], address: str, request: EndRequest) -> bool:
    """Wait for the server's first answer; return False where the end was requested before."""
    until = time.monotonic() + READY_WITHIN
    while not request.requested:
        if server.poll() is not None:
            raise UserError(f"the MLflow server must start, but it ended with status {server.returncode}.")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
        if time.monotonic() > until:
            raise UserError(f"the MLflow server must answer within {READY_WITHIN:g} s at {address}, but it does not.")
        time.sleep(LOOK_EVERY)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
