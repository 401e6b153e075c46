"""Following a job's log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from balance_tune.errors import UserError
from balance_tune.studies.cluster import job_log
from balance_tune.studies.cluster.job_log import follow, wait_for_end

LOG = "one\ntwo\nthree\nfour\n"


class Job:
    """A job whose log is told in pieces; the connection breaks once, after so many pieces."""

    def __init__(self, breaks_after: int | None = None, looks: int = 1, status: str = "SUCCEEDED") -> None:
        self.breaks_after, self.looks, self.status = breaks_after, looks, status

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        for i, line in enumerate(LOG.splitlines(keepends=True)):
            if self.breaks_after == i:
                self.breaks_after = None
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
            yield line

    def get_job_info(self, submission_id: str) -> Any:
        self.looks -= 1
        status = JobStatus(self.status if self.looks <= 0 else "RUNNING")
        return SimpleNamespace(status=status, submission_id=submission_id)

    def get_job_logs(self, submission_id: str) -> str:
        return LOG


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "PAUSE", 0.0)


@pytest.mark.parametrize("breaks_after", [None, 0, 1, 3])
def test_every_line_is_written_once_even_over_a_broken_connection(breaks_after: int | None) -> None:
    written: list[str] = []
    job = follow(Job(breaks_after, looks=2), "s", written.append)  # type: ignore[arg-type]
    assert "".join(written) == LOG
    assert job.status == JobStatus.SUCCEEDED


def test_a_connection_that_always_breaks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Job):
        async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
            raise RuntimeError("closed")
            yield ""

    monkeypatch.setattr(job_log, "BREAKS", 3)
    with pytest.raises(UserError, match=r"lost 3 times in a row \(closed\); the job goes on"):
        follow(Broken(looks=100), "s", lambda text: None)  # type: ignore[arg-type]


def test_a_head_that_is_away_for_a_while_is_waited_for() -> None:
    class Away(Job):
        asked = 0

        def get_job_info(self, submission_id: str) -> Any:
            self.asked += 1
            if self.asked in (1, 2, 4):
                raise ConnectionError("connection refused")
            return super().get_job_info(submission_id)

    written: list[str] = []
    assert follow(Away(looks=2), "s", written.append).status == JobStatus.SUCCEEDED  # type: ignore[arg-type]
    assert "".join(written) == LOG


def test_a_stop_waits_until_the_job_has_ended() -> None:
    assert wait_for_end(Job(looks=3, status="STOPPED"), "s", 60).status == JobStatus.STOPPED  # type: ignore[arg-type]
    assert wait_for_end(Job(looks=3, status="STOPPED"), "s", 0).status == JobStatus.RUNNING  # type: ignore[arg-type]
