"""The doctor as a whole: on a healthy machine, and where MLflow or Ray do not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from balance_tune.studies.doctor import examination
from balance_tune.studies.doctor.examination import ask, examine
from balance_tune.studies.loading import load_config
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store

STUDY = {"name": "s", "datasets": ["av_digits"], "methods": ["joint"]}


class Refusing(BaseHTTPRequestHandler):
    """Answers everything as MLflow does where the host is not among those allowed."""

    def do_GET(self) -> None:
        self._refuse()

    def do_POST(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        body = b"Invalid Host header - possible DNS rebinding attack detected"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_refuses_the_host_is_told_from_one_that_is_not_there(refusing: str) -> None:
    found = ask(Store(refusing, None))
    assert found.state == "fail"
    assert "--allowed-hosts" in found.remedy
    nobody = ask(Store("http://127.0.0.1:1", None))
    assert nobody.state == "fail"
    assert "does not answer" in nobody.words


def test_a_database_without_a_server_is_told_without_its_password() -> None:
    found = ask(Store("postgresql://me:secret@127.0.0.1:1/mlflow", None))
    assert found.state == "fail"
    assert "secret" not in str(found)


@pytest.mark.ray
def test_a_healthy_machine_is_all_green(tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(examination, "_other_rays", lambda address: [])  # whatever else this machine is used for
    monkeypatch.setattr("balance_tune.studies.doctor.nodes.DISK_WISH", 0)
    monkeypatch.setattr("balance_tune.studies.doctor.nodes.DISK_LEAST", 0)
    found = list(examine(StudyFolder(tmp_path), load_config(STUDY), tmp_path))
    assert {f.state for f in found} == {"ok"}, "\n".join(map(str, found))
    assert [f.check for f in found] == [
        "instances", "token", "mlflow", "working dir", "nodes", "fit", "devices", "versions", "storage", "disk", "shm",
        "clock", "memory",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_rest_is_told_where_ray_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*args: object) -> None:
        raise ConnectionError("Failed to connect to GCS at 10.0.0.9:6379")

    monkeypatch.setattr("balance_tune.studies.cluster.ray_cluster.ray_for", silent)
    monkeypatch.setattr(examination, "_other_rays", lambda address: [])
    found = list(examine(StudyFolder(tmp_path), None, tmp_path))
    assert found[-1].check == "ray"
    assert found[-1].state == "fail"
    assert "10.0.0.9" in found[-1].words


def test_optunas_database_is_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BALANCE_TUNE_STORAGE", raising=False)
    assert list(examination._database(StudyFolder(tmp_path))) == []
    monkeypatch.setenv("BALANCE_TUNE_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    (found,) = examination._database(StudyFolder(tmp_path))
    assert found.state == "ok"
    monkeypatch.setenv("BALANCE_TUNE_STORAGE", "postgresql://me:secret@127.0.0.1:1/optuna")
    (found,) = examination._database(StudyFolder(tmp_path))
    assert found.state == "fail"
    assert "must answer" in found.words
    assert "secret" not in f"{found.words} {found.remedy}"
