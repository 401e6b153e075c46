"""`balance-tune submit`: what it asks of the cluster, prints and returns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from balance_tune.cli import main
from balance_tune.studies.cluster import job_log, jobs

ADDRESS = "http://127.0.0.1:8265"


class Client:
    """A cluster with one job at most."""

    def __init__(self) -> None:
        self.known: list[Any] = []
        self.end: tuple[str, int | None] = ("SUCCEEDED", 0)
        self.requests: list[Any] = []

    def get_address(self) -> str:
        return ADDRESS

    def list_jobs(self) -> list[Any]:
        return self.known

    def get_job_info(self, submission_id: str) -> Any:
        status, code = self.end
        return SimpleNamespace(
            submission_id=submission_id, status=JobStatus(status), message="why", driver_exit_code=code, start_time=0
        )

    def stop_job(self, submission_id: str) -> bool:
        self.end = ("STOPPED", None)
        return True


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()

    def submit(client: Any, request: Any, say: Any) -> str:
        made.requests.append(request)
        return str(request.name)

    def follow(client: Any, submission_id: str, write: Any) -> Any:
        write("the log\n")
        return made.get_job_info(submission_id)

    monkeypatch.setattr(jobs, "client_at", lambda address: made)
    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(job_log, "follow", follow)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("name: s\ndatasets: [av_digits]\nmethods: [joint]\n")
    return made


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", None, 1),
        ("FAILED", -9, 1),
        ("STOPPED", None, 130),
    ],
)
def test_the_status_is_that_of_the_study(
    client: Client, status: str, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    client.end = (status, code)
    assert main(["submit", "s.yaml", "--address", ADDRESS]) == expected
    told = capsys.readouterr()
    assert told.out == "the log\n"
    assert "job s" in told.err


def test_what_was_asked_for_is_handed_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    argv = ["submit", "s.yaml", "search.trials=4", "--address", ADDRESS, "--root", "/mnt", "--env", "SECRET", "--env"]
    assert main([*argv, "A=b=c", "--driver-label", "tier=safe", "--no-wait", "seed=3"]) == 0
    (request,) = client.requests
    assert (request.name, request.root, list(request.overrides)) == ("s", "/mnt", ["search.trials=4", "seed=3"])
    assert request.environment == {"SECRET": "x", "A": "b=c"}
    assert request.labels == {"tier": "safe"}


def test_stop_ends_the_running_job_and_says_how_to_go_on(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["submit", "s.yaml", "--address", ADDRESS, "--stop"]
    assert main(argv) == 2
    assert "none of `s` is" in capsys.readouterr().err
    client.known = [SimpleNamespace(submission_id="s~3", status=JobStatus.RUNNING, start_time=1)]
    assert main(argv) == 0
    assert "job s~3 is stopped" in capsys.readouterr().err


def test_follow_attaches_to_the_last_job(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["submit", "s.yaml", "--address", ADDRESS, "--follow"]
    assert main(argv) == 2
    client.known = [
        SimpleNamespace(submission_id=i, status=JobStatus.SUCCEEDED, start_time=t) for i, t in (("s~2", 2), ("s", 1))
    ]
    assert main(argv) == 0
    assert "job s~2 succeeded" in capsys.readouterr().err
    assert client.requests == []


def test_ctrl_c_leaves_the_job_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_log, "follow", interrupted)
    assert main(["submit", "s.yaml", "--address", ADDRESS]) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "there is no --address"),
        (["--address", ADDRESS, "--root", "studies"], "--root must be an absolute path"),
        (["--address", ADDRESS, "--env", "NOT_SET_ANYWHERE"], "--env must be NAME=VALUE"),
        (["--address", ADDRESS, "--driver-label", "x"], "--driver-label must be KEY=VALUE"),
        (["--address", ADDRESS, "--stop", "--no-wait"], "not allowed with argument"),
    ],
)
def test_each_mistake_is_one_line(
    client: Client, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "s.yaml", *argv]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1
