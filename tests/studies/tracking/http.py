"""`mlflow models serve` on loopback, and a client of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@contextmanager
def serving(model: str, store: str, folder: Path) -> Iterator[Ask]:
    """Serve a model in this environment; yield what sends rows as JSON and returns the answers.

    Args:
        model: address of the model.
        store: MLflow's, where the address is looked up.
        folder: the server's working folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**{k: v for k, v in os.environ.items() if "MLFLOW_" not in k},  # servers of other tests may have set some
             "MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true",
             "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        with opener.open(request, timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["predictions"]
        return found

    try:
        assert server.stdout is not None
        log = []
        for line in server.stdout:
            log.append(line)
            if "Uvicorn running" in line:
                break
        else:
            pytest.fail("mlflow models serve ended:\n" + "".join(log))
        yield ask
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.communicate()
