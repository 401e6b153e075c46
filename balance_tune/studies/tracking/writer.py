"""The one thread that talks to MLflow: takes entries from the spool, gathers them by run, sends each until it is in."""

from __future__ import annotations

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
from balance_tune.studies.tracking.spool import Spool

AT_ONCE = 500  # entries read from the spool before some are sent
ATTEMPTS = 8  # at one entry; while the store cannot be opened, none is counted
FULL = 800  # metrics gathered for one run that are sent before its trial ends
LOOK_EVERY = 1.0  # seconds between looks at the spool while nothing in it is urgent

logger = logging.getLogger(__name__)

Task = Callable[[Mapping[str, Any]], None]


class Sender(Protocol):
    """What the writer needs of MLflow: see `Delivery`."""

    def open(self) -> None: ...
    def send(self, update: Update) -> None: ...


@dataclass
class Pending:
    """Updates of one run that are merged but not sent."""

    update: Update
    position: int  # in the spool, of the first of them
    since: float  # seconds on the monotonic clock


class Writer:
    """Owns the sender and a daemon thread; the rest of the study only ever calls `put`.

    Entries of one run keep their order and are merged until its trial ends, `linger` seconds have passed or `FULL`
    metrics have come. An entry `{"task": name, ...}` is done by `tasks[name]` after all that came before it. What the
    store refuses for good goes to `<spool>.rejected`; every other failure is tried again, ever more rarely, up to
    `patience` seconds apart.
    """

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        tasks: Mapping[str, Task],
        *,
        shown: str,
        linger: float = 10.0,
        first_pause: float = 0.5,
        patience: float = 30.0,
    ) -> None:
        self._spool, self._sender, self._tasks, self._shown = spool, sender, tasks, shown
        self._linger, self._first_pause, self._patience = linger, first_pause, patience
        self._wake = threading.Condition()
        self._drain_asked = 0  # how often `drain` was called; the thread answers in `_drained`
        self._drained = 0
        self._hurry = False
        self._pausing = False
        self._stop = False
        self._progress = 0  # rises with everything that is sent
        self.trouble = ""  # why MLflow does not answer; empty while it does
        self.lost = 0  # entries the disk refused; `Tracker.reconcile` makes up for them
        self._gathered: dict[RunKey, Pending] = {}
        self._thread = threading.Thread(target=self._run, name="mlflow-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, entry: dict[str, Any]) -> None:
        """Hand over one entry: a line appended to a file. Never waits for MLflow, never raises.

        The thread is woken for what ends a run, for a task, and when it has nothing else to wait for; to wake it for
        every report would cost the caller as much again.
        """
        try:
            self._spool.append(entry)
        except OSError as error:
            if not self.lost:
                logger.warning("MLflow misses entries until the next run: the queue takes no more (%s).", error)
            self.lost += 1
            return
        with self._wake:
            if not self._gathered or "task" in entry or entry.get("status") in ENDED:
                self._wake.notify()

    def drain(self, grace: float) -> bool:
        """Wait until everything put so far is sent. True: it is.

        Gives up when nothing was sent for `grace` seconds, or for a sixth of them while no attempt is under way because
        the last ones failed.
        """
        with self._wake:
            self._drain_asked += 1
            asked = self._drain_asked
            self._hurry = True
            self._wake.notify_all()
            progress, since = self._progress, time.monotonic()
            while self._drained < asked and self._thread.is_alive():
                if self._progress != progress:
                    progress, since = self._progress, time.monotonic()
                left = since + (grace / 6 if self._pausing else grace) - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(left, grace / 6))
        return self._drained >= asked

    def stop(self, grace: float) -> bool:
        """Drain, end the thread and close the queue; what is left stays on disk. True: nothing is left."""
        done = self.drain(grace)
        with self._wake:
            self._stop = True
            self._wake.notify_all()
        self._thread.join(0 if not done else grace)
        if not self._thread.is_alive():
            self._spool.close()
        return done

    def _run(self) -> None:
        try:
            self._attempt(self._sender.open)
            gc.freeze()  # MLflow's modules stay; looking through them holds the driver for a quarter of a second
            while not self._stop:
                asked = self._drain_asked
                taken = self._take()
                now = time.monotonic()
                for key, pending in list(self._gathered.items()):
                    if asked > self._drained or self._is_due(pending, now):
                        self._send(key)
                self._commit()
                if taken == AT_ONCE:
                    continue
                with self._wake:
                    if asked > self._drained:
                        self._drained = asked
                        self._wake.notify_all()
                    elif not (self._spool.unread or self._stop or self._drain_asked > asked):
                        self._wake.wait(min(self._linger, LOOK_EVERY) if self._gathered else None)
        except _Stopped:
            pass
        except Exception:  # a bug of ours: the study is worth more than its mirror
            logger.exception("the MLflow writer ended; entries stay in %s.", self._spool.path)
            self.trouble = "the writer ended by an error of its own"

    def _take(self) -> int:
        taken = 0
        for position, entry in self._spool.read(AT_ONCE):
            taken += 1
            if "task" in entry:
                for key in list(self._gathered):
                    self._send(key)
                self._attempt(lambda entry=entry: self._tasks[entry["task"]](entry), entry)  # type: ignore[misc]
                continue
            update = Update.from_json(entry)
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
                if not self.trouble:
                    logger.warning(
                        "MLflow at %s does not take what it is sent (%s); the study goes on, entries wait in %s.",
                        self._shown,
                        _short(error),
                        self._spool.path,
                    )
                self.trouble = _short(error)
                pause = self._first_pause if self._pause(pause) else min(2 * pause, self._patience)
                if entry is not None:  # the store may have been emptied or replaced, and know none of our runs
                    self._reopen()
            else:
                break
        if self.trouble:
            logger.warning("MLflow at %s takes entries again.", self._shown)
        self.trouble = ""
        with self._wake:
            self._progress += 1
            self._wake.notify_all()

    def _reopen(self) -> None:
        pause = self._first_pause
        while True:
            try:
                self._sender.open()
                return
            except Exception as error:
                self.trouble = _short(error)
            pause = self._first_pause if self._pause(pause) else min(2 * pause, self._patience)

    def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt, a little unevenly; a drain cuts it short (True), a stop ends the thread."""
        until = time.monotonic() + seconds * random.uniform(0.8, 1.2)
        with self._wake:
            self._pausing = True
            while not self._stop and not self._hurry and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)
            self._pausing = False
            if self._stop:
                raise _Stopped
            hurried, self._hurry = self._hurry, False
        return hurried

    def _reject(self, entry: dict[str, Any], error: Exception) -> None:
        path = Path(f"{self._spool.path}.rejected")
        logger.warning("MLflow refused an entry, kept in %s: %s", path, _short(error))
        with path.open("a") as file:
            file.write(json.dumps({"error": _short(error), **entry}) + "\n")


class _Stopped(Exception):
    """Ends the thread while it waits for a store that does not answer."""


def _short(error: BaseException) -> str:
    """Return the first line of an error, without what stands between `://` and `@` (a password)."""
    from re import sub

    text = sub(r"//[^/\s@]*@", "//", (str(error).strip() or type(error).__name__).splitlines()[0])
    return text if len(text) <= 200 else text[:199] + "…"
