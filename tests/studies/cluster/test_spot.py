"""A cloud's notice that a machine will be taken away, from a metadata service of the test's own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from balance_tune.studies.cluster import spot

NOTICE = "/latest/meta-data/spot/instance-action"
PREEMPTED = "/computeMetadata/v1/instance/preempted"


@contextmanager
def metadata(answers: dict[str, Any]) -> Iterator[str]:
    """Serve path -> text as the clouds do: AWS to who has its token, Google Cloud to who names its header."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.path == "/latest/api/token"
            self._say(200, "a-token" if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else "")

        def do_GET(self) -> None:
            allowed = self.headers["X-aws-ec2-metadata-token"] == "a-token" or self.headers["Metadata-Flavor"]
            text = answers.get(self.path)
            if not allowed:
                self._say(401, "")
            elif isinstance(text, list):
                self._say(*text.pop(0) if len(text) > 1 else text[0])
            else:
                self._say(*(404, "") if text is None else (200, text))

        def _say(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_a_notice_nothing_is_said() -> None:
    with metadata({PREEMPTED: "FALSE"}) as base:
        assert spot.remaining("aws", base) is None
        assert spot.remaining("gcp", base) is None


def test_aws_says_when_and_google_cloud_says_that() -> None:
    end = datetime.now(UTC) + timedelta(seconds=120)
    told = f'{{"action": "terminate", "time": "{end:%Y-%m-%dT%H:%M:%SZ}"}}'
    with metadata({NOTICE: told, PREEMPTED: "TRUE"}) as base:
        left = spot.remaining("aws", base)
        assert left is not None
        assert 100 <= left <= 115
        assert spot.remaining("gcp", base) == 25


def test_a_service_that_fails_for_a_while_is_asked_again_and_the_node_drained_once() -> None:
    answers = {PREEMPTED: [(503, ""), (503, ""), (200, "FALSE"), (200, "TRUE")]}
    drained, said = list[int](), list[str]()
    with metadata(answers) as base:
        spot.watch("gcp", drained.append, 0.01, base=base, say=said.append)
    assert drained == [25]
    assert [line.split(":")[0] for line in said] == [
        "no answer that can be used, still trying",
        "this machine will be taken away; its node is drained, with 25 s to go",
    ]


@pytest.mark.parametrize("refusal", [OSError("no head"), subprocess.TimeoutExpired("ray", 60), RuntimeError("no Ray")])
def test_a_drain_that_is_refused_is_asked_for_again(refusal: Exception) -> None:
    tries = list[int]()

    def refused_once(seconds: int) -> None:
        tries.append(seconds)
        if len(tries) == 1:
            raise refusal

    with metadata({PREEMPTED: "TRUE"}) as base:
        spot.watch("gcp", refused_once, 0.01, base=base, say=lambda line: None)
    assert tries == [25, 25]


@pytest.mark.parametrize("told", ["", "{}", "soon"])
def test_an_answer_that_means_nothing_ends_nothing(told: str) -> None:
    good = '{"action": "terminate", "time": "2020-01-01T00:00:00Z"}'
    drained = list[int]()
    with metadata({NOTICE: [(200, told), (200, good)]}) as base:
        spot.watch("aws", drained.append, 0.01, base=base, say=lambda line: None)
    assert drained == [spot.LEAST]
