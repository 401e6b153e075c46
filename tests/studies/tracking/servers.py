"""MLflow servers for tests: a real one on PostgreSQL in processes of its own, a quick one on sqlite in a thread."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Protocol


class Server(Protocol):
    """An MLflow server that can be killed and started again at the same address."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class ServerProcess:
    """`mlflow server` as users start it."""

    def __init__(self, backend: str, artifacts: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._given = {
            "MLFLOW_BACKEND_STORE_URI": backend,
            "MLFLOW_ARTIFACTS_DESTINATION": artifacts.as_uri(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--workers", "1"], env={**os.environ, **self._given}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if "Uvicorn running" in line:
                break
        else:
            raise AssertionError("the MLflow server ended:\n" + "".join(log))
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # a full pipe would stop it

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class ServerThread:
    """The server's own application in a thread of this process: up in an instant, and as gone when killed."""

    def __init__(self, backend: str, artifacts: Path) -> None:
        import mlflow.server as server

        self._app: Any = server.app
        self._before = os.environ.get("MLFLOW_TRACKING_URI")  # the server makes its own store the process's
        os.environ[server.BACKEND_STORE_URI_ENV_VAR] = backend
        os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = artifacts.as_uri()
        os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
        os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
        self._forget()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: Any = None

    def start(self) -> None:
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def kill(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        import mlflow
        import mlflow.server as server

        self.kill()
        mlflow.set_tracking_uri(self._before)
        for name in ("BACKEND_STORE_URI", "ARTIFACTS_DESTINATION", "ARTIFACT_ROOT", "SERVE_ARTIFACTS"):
            os.environ.pop(getattr(server, f"{name}_ENV_VAR"), None)
        self._forget()

    @staticmethod
    def _forget() -> None:
        from mlflow.server import handlers

        handlers._tracking_store = handlers._model_registry_store = handlers._artifact_repo = None
