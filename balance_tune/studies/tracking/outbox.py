"""The driver's end of tracking: what MLflow is to be told goes into a file, from which a writer elsewhere takes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from balance_tune.studies.tracking.spool import Appender
from balance_tune.studies.tracking.writer import State

LIVES = 5  # of a writer while somebody waits for it

logger = logging.getLogger(__name__)


class Carrier(Protocol):
    """What the outbox needs of a writer that runs elsewhere: see `Courier`."""

    @property
    def pid(self) -> int | None: ...
    def start(self, heard: Callable[[State], None]) -> None: ...
    def drain(self, number: int) -> None: ...
    def end(self, grace: float) -> bool: ...


class Outbox:
    """Owns the file's appending end and the writer that reads it; the rest of the study only ever calls `put`."""

    def __init__(self, path: Path, carrier: Carrier) -> None:
        self._spool, self._carrier = Appender(path), carrier
        self._changed = threading.Condition()
        self._state = State()
        self._asked = 0  # how often `drain` was called; the writer answers with `State.drained`
        self.lost = 0  # entries the disk refused; `Tracker.reconcile` makes up for them

    @property
    def trouble(self) -> str:
        """Why MLflow does not take what it is sent, in a few words; empty while it does."""
        return self._state.trouble

    @property
    def pid(self) -> int | None:
        """The writer's process; None before there is one."""
        return self._carrier.pid

    def start(self) -> None:
        """Start the writer."""
        self._carrier.start(self._heard)

    def put(self, entry: dict[str, Any]) -> None:
        """Hand over one entry: a line appended to a file. Never waits for MLflow, never raises."""
        try:
            self._spool.append(entry)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            if not self.lost:
                logger.warning("MLflow misses entries until the next run: the queue takes no more (%s).", error)
            self.lost += 1

    def drain(self, grace: float) -> bool:
        """Wait until everything put so far is sent. True: it is.

        Gives up when nothing was sent for `grace` seconds, or for a sixth of them while no attempt is under way because
        the last ones failed; and when the writer has ended `LIVES` times meanwhile.
        """
        with self._changed:
            self._asked += 1
            asked, lives = self._asked, self._state.ended + LIVES
        self._carrier.drain(asked)
        with self._changed:
            progress, since = self._state.progress, time.monotonic()
            while self._state.drained < asked and self._state.ended < lives:
                if self._state.progress != progress:
                    progress, since = self._state.progress, time.monotonic()
                left = since + (grace / 6 if self._state.pausing else grace) - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, grace / 6))
        return self._state.drained >= asked

    def stop(self, grace: float) -> bool:
        """Drain, end the writer and close the queue; what is left stays on disk. True: nothing is left."""
        done = False
        try:
            done = self.drain(grace)
        finally:
            if self._carrier.end(grace if done else 0.0):
                self._spool.close()
        return done

    def _heard(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
