"""Prints the log of a job as it grows, until the job ends; lost connections are opened again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import aiohttp

from balance_tune.errors import UserError
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

PAUSE = 1.0  # seconds between two looks
BREAKS = 60  # connections lost in a row before we give up

logger = logging.getLogger(__name__)


def follow(client: JobSubmissionClient, submission_id: str, write: Callable[[str], object]) -> JobDetails:
    """Write a job's log as it grows and return the job once it has ended; what was written is not written twice.

    Raises:
        UserError: the connection was lost `BREAKS` times in a row.
    """
    log = _Log(write)
    breaks = 0
    while True:
        try:
            asyncio.run(log.tail(client.tail_job_logs(submission_id)))
            job = client.get_job_info(submission_id)
            if job.status.is_terminal():
                log.take(client.get_job_logs(submission_id), at=0)
                return job
            breaks = 0
        except (aiohttp.ClientError, RuntimeError, OSError) as error:
            breaks += 1
            if breaks >= BREAKS:
                raise UserError(
                    f"the cluster must answer to be followed, but the connection was lost {breaks} times in a row "
                    f"({one_line(str(error))[:120]}); the job goes on, follow it again with --follow."
                ) from error
            logger.debug("the connection broke: %s", error)
        time.sleep(PAUSE)


class _Log:
    """Writes a text once that arrives in pieces, some of them repeatedly."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._written = write, 0

    def take(self, piece: str, at: int) -> None:
        """Take the piece that begins at character `at`."""
        new = piece[max(0, self._written - at) :]
        if new:
            self._write(new)
            self._written = at + len(piece)

    async def tail(self, pieces: AsyncIterator[str]) -> None:
        at = 0
        async for piece in pieces:
            self.take(piece, at)
            at += len(piece)


def wait_for_end(client: JobSubmissionClient, submission_id: str, patience: float) -> JobDetails:
    """Wait until a job has ended, at most `patience` seconds, and return it as it is then."""
    deadline = time.monotonic() + patience
    while True:
        job = client.get_job_info(submission_id)
        if job.status.is_terminal() or time.monotonic() > deadline:
            return job
        time.sleep(PAUSE)
