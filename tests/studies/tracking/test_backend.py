"""Where runs go by default and on request, and that nobody else hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.tracking.backend import Store, client_of_store, connect, store_of


def test_runs_go_to_a_file_below_the_root_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    assert store.uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert store.artifacts == (tmp_path / "mlartifacts").as_uri()
    assert store.file == tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-the-environment:5000")
    assert store_of(tmp_path).uri == "http://from-the-environment:5000"
    assert store_of(tmp_path, "https://from-the-study").uri == "https://from-the-study"


def test_a_server_keeps_the_artifacts_itself_and_a_database_does_not(tmp_path: Path) -> None:
    assert store_of(tmp_path, "http://server").artifacts is None
    assert store_of(tmp_path, "postgresql+psycopg2://db/mlflow").artifacts == (tmp_path / "mlartifacts").as_uri()


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "ftp://me:secret@host", "databricks"])
def test_what_mlflow_cannot_write_to_is_refused_in_one_line(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"must begin with http://") as error:
        store_of(tmp_path, uri)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/mlflow?sslpassword=secret", "postgresql://db:5432/mlflow"),
        ("https://me:secret@server/path", "https://server/path"),
        ("sqlite:////data/mlflow.db?key=secret", "sqlite:////data/mlflow.db"),
    ],
)
def test_what_is_shown_of_an_address_holds_no_secret(tmp_path: Path, uri: str, shown: str) -> None:
    assert store_of(tmp_path, uri).shown == shown


def test_the_store_waits_for_the_disk_less_often_and_other_databases_as_before(tmp_path: Path) -> None:
    import sqlalchemy
    from mlflow.tracking._tracking_service.utils import _get_store

    store = store_of(tmp_path)
    connect(store).search_experiments(max_results=1)
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    for engine, synchronous in ((_get_store(store.uri).engine, 1), (other, 2)):
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar() == synchronous


def test_tracking_says_nothing_and_calls_nobody(tmp_path: Path) -> None:
    """A study is tracked in a fresh process whose sockets all fail and tell."""
    program = f"""
import socket, sys
def call(*args, **kwargs):
    print("CALLED", args)
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = call
from pathlib import Path
from balance_tune.studies.tracking.backend import store_of
from balance_tune.studies.tracking.sync import sync
from tests.studies.tracking.written import WrittenStudy
root = Path({str(tmp_path)!r})
study = WrittenStudy(root, "quiet")
study.begin(0).train(1).end()
assert sync(study.folder, store_of(root), "complete")
assert "ray" not in sys.modules and "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pa55"}, "Basic bWU6cGE1NQ=="),
    ],
)
def test_a_server_is_asked_with_the_token_or_password_of_the_usual_variables(
    given: dict[str, str], sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}'
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"http://127.0.0.1:{server.server_port}", None)
        assert connect(store).get_experiment_by_name("s") is None
        server.shutdown()
    assert set(heard) == {sent}


def test_a_store_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    """Killed between two of its tables, a store under its final name would be of no use to MLflow for ever."""
    file = tmp_path / "mlflow.db"
    program = (
        "import sys, pathlib; from balance_tune.studies.tracking.backend import Store, connect\n"
        f"connect(Store('sqlite:///{file}', None)).search_experiments()"
    )
    truncate = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.tmp")):
        assert truncate.poll() is None
        time.sleep(0.01)
    truncate.kill()
    truncate.wait()
    left = set(tmp_path.iterdir())  # what was made of it, and sqlite's own journal beside it
    assert file not in left

    several = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(one.communicate()[1], one.returncode) for one in several] == [("", 0)] * 2
    assert connect(Store(f"sqlite:///{file}", None)).search_experiments()[0].name == "Default"
    assert set(tmp_path.iterdir()) == left | {file}, "somebody may still be at work on it"
    for path in left:
        os.utime(path, (0, 0))
    connect(Store(f"sqlite:///{file}", None))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("mlflow", "optuna", "same"),
    [
        ("postgresql://a:secret@db:5432/one", "postgresql+psycopg://b:hidden@db:5432/one", True),
        ("postgresql://a:secret@db/one", "postgresql://a:secret@db/two", False),
        ("postgresql://a:secret@db/one", "postgresql://a:secret@other/one", False),
        ("http://mlflow:5000", "postgresql://a:secret@db/one", False),
        ("postgresql://a:secret@db/one", "", False),
        ("postgresql://a:secret@db/one", "no address", False),
    ],
)
def test_mlflow_and_optuna_cannot_share_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow: str, optuna: str, same: bool
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_STORAGE", optuna)
    if not same:
        assert store_of(tmp_path, mlflow).uri == mlflow
        return
    with pytest.raises(UserError, match="must have a database each") as caught:
        store_of(tmp_path, mlflow)
    assert "secret" not in str(caught.value)


def test_an_address_that_cannot_be_read_tells_no_part_of_its_password() -> None:
    assert "s3cr3t" not in Store("postgresql://user:s3cr3t/pw@host/db", None).shown


@pytest.mark.parametrize(
    ("content", "words"), [(b"x" * 5000, "file is not a database"), (None, "unable to open database file")]
)
def test_a_file_that_is_no_database_is_told_at_once(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "m.db"
    file.mkdir() if content is None else file.write_bytes(content)
    store = store_of(tmp_path, f"sqlite:///{file}")
    with pytest.raises(UserError, match=words), client_of_store(store):
        raise AssertionError("it was opened")
