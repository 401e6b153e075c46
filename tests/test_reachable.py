"""An address that a user gave answers, or one line says so within seconds."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from ray._private import services

from balance_tune.errors import UserError
from balance_tune.reachable import check_bucket, check_host, check_http, check_url
from balance_tune.studies.cluster.ray_address import VARIABLE, check_ray_address, joins_cluster
from balance_tune.studies.storage.database import check_answers

REMEDY = "mend it"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_CONNECT_S", "0.5")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@pytest.fixture
def web() -> Iterator[int]:
    """A port where a web server refuses everything."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *words: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_listens_is_reachable(silent: int, web: int) -> None:
    check_host("127.0.0.1", silent, "x", REMEDY)
    check_url(f"postgresql://me:secret@127.0.0.1:{silent}/name", "x", REMEDY)
    check_http(f"http://127.0.0.1:{web}", "x", REMEDY)
    check_bucket(f"s3://b/x?endpoint_override=127.0.0.1:{silent}&scheme=http")


def test_a_url_without_a_host_is_not_asked() -> None:
    check_url("sqlite:////tmp/x.db", "x", REMEDY)
    check_url("postgresql:///name?host=/var/run/postgresql", "x", REMEDY)
    check_bucket("file:///tmp/x")


def test_a_closed_port_is_one_line(closed: int) -> None:
    for call in (
        lambda: check_host("127.0.0.1", closed, "it must answer", REMEDY),
        lambda: check_url(f"postgresql://me:secret@127.0.0.1:{closed}/name", "it must answer", REMEDY),
        lambda: check_http(f"http://127.0.0.1:{closed}", "it must answer", REMEDY),
    ):
        with pytest.raises(UserError, match=r"^it must answer \(Connection refused\); mend it\.$"):
            call()


def test_a_server_that_says_nothing_is_one_line(silent: int) -> None:
    with pytest.raises(UserError, match=r"no answer within 0\.5 s\); mend it"):
        check_http(f"http://127.0.0.1:{silent}", "x", REMEDY)


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UserError, match=r"the name nowhere\.invalid is not"):
        check_host("nowhere.invalid", 80, "x", REMEDY)


def test_an_address_that_cannot_be_read_tells_no_password() -> None:
    with pytest.raises(UserError, match="cannot be read as an address") as caught:
        check_url("postgresql://me:se/cret@host:123456/x", "x", REMEDY)
    assert "cret" not in str(caught.value)


def test_behind_a_proxy_the_proxy_must_answer(closed: int, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent}")
    check_url(f"http://elsewhere.invalid:{closed}", "x", REMEDY)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    with pytest.raises(UserError, match=f"behind the proxy 127.0.0.1:{closed} .Connection refused"):
        check_url("http://elsewhere.invalid", "x", REMEDY)


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("s3://b/x?region=eu-west-1", "s3.eu-west-1.amazonaws.com"),
        ("s3://b/x?region=cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
        ("gs://b/x", "storage.googleapis.com"),
        ("s3://b/x?endpoint_override=minio:9000", "minio:9000"),
    ],
)
def test_the_server_of_a_bucket_is_named(uri: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*words: object, **more: object) -> None:
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=f"the object store of {uri[:6]} must answer, but {server} does not .the name"):
        check_bucket(uri)


def test_the_database_of_a_study_is_asked_before_anything_else(
    closed: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    monkeypatch.setenv("BALANCE_TUNE_STORAGE", f"postgresql://me:secret@127.0.0.1:{closed}/name")
    with pytest.raises(UserError, match="Connection refused") as caught:
        check_answers(folder)
    assert "secret" not in str(caught.value)
    (folder / "optuna.journal").touch()  # a study that has begun in a journal stays there
    check_answers(folder)


# RAY_ADDRESS ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "the address of a dashboard, which is for `balance-tune submit --address`"),
        ("https://cluster", "the address of a dashboard"),
        ("ray://head:10001", "an address of Ray Client, which runs no studies"),
        ("auto", "RAY_ADDRESS is auto, but no Ray runs here"),
        ("head", "must be HOST:PORT of the cluster's head, as 10.0.0.1:6379, but is `head`"),
        ("head:port", "must be HOST:PORT"),
        ("head:6379/x", "must be HOST:PORT"),
        ("redis://head:6379", "must be HOST:PORT"),
        ("nowhere.invalid:6379", "the name nowhere.invalid is not"),
    ],
)
def test_an_address_that_cannot_be_rays_is_one_line(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(UserError, match=message) as caught:
        check_ray_address()
    assert "unset RAY_ADDRESS for a Ray of the study's own" in str(caught.value)


def test_a_cluster_that_is_gone_and_another_server_are_one_line(
    closed: int, silent: int, web: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port, message in [(closed, "does not .Connection refused"), (silent, "is none"), (web, "is none")]:
        monkeypatch.setenv(VARIABLE, f"127.0.0.1:{port}")
        with pytest.raises(UserError, match=f"a Ray must answer at RAY_ADDRESS, but .*`127.0.0.1:{port}` {message}"):
            check_ray_address()


@pytest.mark.parametrize("address", ["", " ", "local"])
def test_an_empty_address_means_a_ray_of_the_studys_own(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address)
    assert not joins_cluster()
    check_ray_address()
