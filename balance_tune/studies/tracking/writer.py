"""The loop that talks to MLflow: takes entries from the spool, gathers them by run, sends each until it is in."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from balance_tune.studies.tracking.delivery import is_refusal
from balance_tune.studies.tracking.runs import ENDED, RunKey, Update
from balance_tune.studies.tracking.spool import Reader

AT_ONCE = 500  # entries read from the spool before some are sent
ATTEMPTS = 8  # at one entry; while the store cannot be opened, none is counted
FULL = 800  # metrics gathered for one run that are sent before its trial ends
LOOK_EVERY = 1.0  # seconds between looks at the spool

logger = logging.getLogger(__name__)

Task = Callable[[Mapping[str, Any]], None]


class Sender(Protocol):
    """What the writer needs of MLflow: see `Delivery`."""

    def open(self) -> None: ...
    def send(self, update: Update) -> None: ...


@dataclass(frozen=True)
class State:
    """What the writer tells of itself.

    Attributes:
        drained: the last `drain` that is done.
        progress: rises with everything that is sent.
        pausing: no attempt is under way because the last ones failed.
        trouble: why MLflow does not answer; empty while it does.
        ended: how many of its processes have ended unasked, as their keeper counts them.
    """

    drained: int = 0
    progress: int = 0
    pausing: bool = False
    trouble: str = ""
    ended: int = 0


@dataclass
class Pending:
    """Updates of one run that are merged but not sent."""

    update: Update
    position: int  # in the spool, of the first of them
    since: float  # seconds on the monotonic clock


class Writer:
    """Owns the reading end of the spool and the sender: `open` and `run`, while other threads `drain` and `stop` it.

    Entries of one run keep their order and are merged until its trial ends, `linger` seconds have passed or `FULL`
    metrics have come. An entry `{"task": name, ...}` is done by `tasks[name]` after all that came before it. What the
    store refuses for good goes to `<spool>.rejected`; every other failure is tried again, ever more rarely, up to
    `patience` seconds apart. `tell` hears of the opened store and of trouble at once, of the rest while a drain is
    under way.
    """

    def __init__(
        self,
        spool: Reader,
        sender: Sender,
        tasks: Mapping[str, Task],
        tell: Callable[[State], None],
        *,
        shown: str,
        linger: float = 10.0,
        first_pause: float = 0.5,
        patience: float = 30.0,
    ) -> None:
        self._spool, self._sender, self._tasks, self._tell, self._shown = spool, sender, tasks, tell, shown
        self._linger, self._first_pause, self._patience = linger, first_pause, patience
        self._wake = threading.Condition()
        self._drain_asked = 0
        self._drained = 0
        self._hurry = False
        self._stop = False
        self._progress = 0
        self._trouble = ""
        self._gathered: dict[RunKey, Pending] = {}

    def drain(self, number: int) -> None:
        """Ask for everything in the spool to be sent now; `State.drained` is `number` when it is."""
        with self._wake:
            self._drain_asked = number
            self._hurry = True
            self._wake.notify_all()

    def stop(self) -> None:
        """Ask `run` to return; what is not sent stays in the spool."""
        with self._wake:
            self._stop = True
            self._wake.notify_all()

    def open(self) -> None:
        """Wait until the queue is ours and the store is open; a `stop` ends it before."""
        self._spool.hold()
        with contextlib.suppress(_Stopped):
            self._attempt(self._sender.open)
            self._say()
        gc.freeze()  # MLflow's modules stay; looking through them takes a quarter of a second

    def run(self, *, until_drain: bool = False) -> None:
        """Send what is in the spool and what comes into it, until `stop`; or until the first drain is asked for."""
        with contextlib.suppress(_Stopped):
            while not self._stop and not (until_drain and self._drain_asked):
                asked = self._drain_asked
                taken = self._take()
                now = time.monotonic()
                for key, pending in list(self._gathered.items()):
                    if asked > self._drained or self._is_due(pending, now):
                        self._send(key)
                self._commit()
                if taken < AT_ONCE:
                    self._rest(asked)

    def _rest(self, asked: int) -> None:
        """Tell of a drain that is done; else wait before the next look at the spool."""
        if asked > self._drained:
            self._drained = asked
            self._say()
            return
        with self._wake:
            if not self._stop and self._drain_asked == asked:
                self._wake.wait(min(self._linger, LOOK_EVERY) if self._gathered else LOOK_EVERY)

    def _take(self) -> int:
        taken = 0
        for position, entry in self._spool.read(AT_ONCE):
            taken += 1
            if "task" in entry:
                for key in list(self._gathered):
                    self._send(key)
                self._attempt(lambda entry=entry: self._tasks[entry["task"]](entry), entry)  # type: ignore[misc]
                continue
            try:
                update = Update.from_json(entry)
            except (KeyError, TypeError, ValueError) as error:  # of another version
                self._reject(entry, error)
                continue
            pending = self._gathered.get(update.key)
            if pending:
                pending.update.merge(update)
            else:
                self._gathered[update.key] = Pending(update, position, time.monotonic())
        return taken

    def _is_due(self, pending: Pending, now: float) -> bool:
        update = pending.update
        size = sum(len(row.metrics) for row in update.rows)
        return update.status in ENDED or now - pending.since >= self._linger or size >= FULL

    def _send(self, key: RunKey) -> None:
        update = self._gathered[key].update
        self._attempt(lambda: self._sender.send(update), update.to_json())
        del self._gathered[key]

    def _commit(self) -> None:
        self._spool.commit(min((p.position for p in self._gathered.values()), default=self._spool.read_to))

    def _attempt(self, action: Callable[[], None], entry: dict[str, Any] | None = None) -> None:
        """Do `action` until it succeeds, is refused for good, or has failed often though the store could be opened."""
        pause, attempts = self._first_pause, 0
        while True:
            try:
                action()
            except Exception as error:
                attempts += 1
                if entry is not None and (is_refusal(error) or attempts == ATTEMPTS):
                    self._reject(entry, error)
                    break
                if not self._trouble:
                    logger.warning(
                        "MLflow at %s does not take what it is sent (%s); the study goes on, entries wait in %s.",
                        self._shown,
                        _short(error),
                        self._spool.path,
                    )
                self._trouble = _short(error)
                pause = self._first_pause if self._pause(pause) else min(2 * pause, self._patience)
                if entry is not None:  # the store may have been emptied or replaced, and know none of our runs
                    self._reopen()
            else:
                break
        self._progress += 1
        if self._trouble:
            logger.warning("MLflow at %s takes entries again.", self._shown)
            self._trouble = ""
            self._say()
        elif self._drain_asked > self._drained:
            self._say()

    def _reopen(self) -> None:
        pause = self._first_pause
        while True:
            try:
                self._sender.open()
                return
            except Exception as error:
                self._trouble = _short(error)
            pause = self._first_pause if self._pause(pause) else min(2 * pause, self._patience)

    def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt, a little unevenly; a drain cuts it short (True), a stop ends the loop."""
        until = time.monotonic() + seconds * random.uniform(0.8, 1.2)
        self._say(pausing=True)
        with self._wake:
            while not self._stop and not self._hurry and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)
            if self._stop:
                raise _Stopped
            hurried, self._hurry = self._hurry, False
        self._say()
        return hurried

    def _say(self, pausing: bool = False) -> None:
        self._tell(State(self._drained, self._progress, pausing, self._trouble))

    def _reject(self, entry: dict[str, Any], error: Exception) -> None:
        path = Path(f"{self._spool.path}.rejected")
        logger.warning("MLflow refused an entry, kept in %s: %s", path, _short(error))
        with path.open("a") as file:
            file.write(json.dumps({"error": _short(error), **entry}) + "\n")


class _Stopped(Exception):
    """Ends the loop while it waits for a store that does not answer."""


def _short(error: BaseException) -> str:
    """Return the first line of an error, without what stands between `://` and `@` (a password)."""
    from re import sub

    text = sub(r"//[^/\s@]*@", "//", (str(error).strip() or type(error).__name__).splitlines()[0])
    return text if len(text) <= 200 else text[:199] + "…"
