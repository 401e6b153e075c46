"""The process that repeats `sync` while a study runs. Started by `Worker`, never by hand.

It takes lines of JSON from its standard input: a `WorkerConfig`, later `{"finish": state}`. It answers with lines of
JSON, `{"status": ...}` for a `Status` and `{"log": [name, level, text]}` for what is logged in this process.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, quiet_environment, reason_of
from balance_tune.studies.tracking.client import is_refusal
from balance_tune.studies.tracking.sync import StudyState, Sync

EVERY = 2.0  # seconds between two passes
FIRST_PAUSE, LONGEST_PAUSE, LAST_PAUSE = 0.5, 30.0, 3.0  # seconds before a repetition; the last: when the driver waits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerConfig:
    """What the process must know.

    Attributes:
        folder: the study's folder.
        store: where the runs go; its address may hold a password, so it is passed on standard input.
        imports: modules that define datasets of the study.
        location: see `StudyFolder.location`.
    """

    folder: str
    store: Store
    imports: tuple[str, ...] = ()
    location: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> WorkerConfig:
        """Return the configuration that `to_json` wrote."""
        location = value["location"] and tuple(value["location"])
        store, imports = Store(**value["store"]), tuple(value["imports"])
        return WorkerConfig(**{**value, "store": store, "imports": imports, "location": location})

    def sync(self) -> Sync:
        """Return the sync of this study."""
        return Sync(StudyFolder.at(Path(self.folder), self.location), self.store, imports=self.imports)


@dataclass(frozen=True)
class Status:
    """How far the process is.

    Attributes:
        left: runs that the pass under way has still to write.
        trouble: why MLflow does not answer; empty while it does.
        done: the last pass, after "finish", is over.
        whole: MLflow has everything; set together with `done`.
    """

    left: int = 0
    trouble: str = ""
    done: bool = False
    whole: bool = False


class Passes(Protocol):
    """What the loop needs of `Sync`."""

    def run(self, state: StudyState, on_progress: Callable[[int], None]) -> bool: ...


class Loop:
    """Repeats a sync until it is asked to finish; then once more, until that succeeds.

    Args:
        sync: makes the sync; called again after it has failed.
        store: for messages.
        answer: is called with every change of the status.
        wait: `threading.Event.wait` of an event that `finish` sets.
    """

    def __init__(self, sync: Callable[[], Passes], store: Store, answer: Callable[[Status], None]) -> None:
        self._make, self._store, self._answer = sync, store, answer
        self._sync: Passes | None = None
        self._state: StudyState = "running"
        self._wake = threading.Event()
        self._trouble = ""

    def finish(self, state: StudyState) -> None:
        """Ask, from another thread, for a last pass."""
        self._state = state
        self._wake.set()

    def run(self) -> None:
        """Repeat the sync, ever more rarely while it fails; return when the last pass is done."""
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            state = self._state
            try:
                if self._sync is None:
                    self._sync = self._make()
                whole = self._sync.run(state, lambda left: self._answer(Status(left=left)))
            except Exception as error:
                if state != "running" and is_refusal(error):  # a repetition is of no use
                    logger.warning("MLflow misses some of the study: %s", error)
                    self._answer(Status(done=True))
                    return
                self._failed(error)
                pause = self._rest(min(pause, LAST_PAUSE) if state != "running" else pause)
                continue
            if self._trouble:
                logger.warning("MLflow at %s answers again.", self._store.shown)
            self._trouble, pause = "", FIRST_PAUSE
            if state != "running":
                self._answer(Status(done=True, whole=whole))
                return
            gc.freeze()  # MLflow's modules stay; looking through them takes a quarter of a second
            self._answer(Status())
            if self._state == "running":
                self._wake.wait(EVERY)

    def _failed(self, error: Exception) -> None:
        reason = reason_of(self._store, error)
        if not self._trouble:
            logger.warning(
                "MLflow at %s does not answer (%s); the study goes on, and it is written later.",
                self._store.shown,
                reason,
            )
        self._trouble = reason
        self._answer(Status(trouble=reason))

    def _rest(self, pause: float) -> float:
        """Wait before the next attempt; return the pause after that."""
        if self._state == "running":
            self._wake.wait(pause)
        else:
            threading.Event().wait(pause)
        return min(2 * pause, LONGEST_PAUSE)


class Answers(logging.Handler):
    """Writes the status, and what anything in the process logs, in whole lines from whichever thread."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream, self._write_lock = stream, threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # a record's arguments may not fit its text; the rest goes on
            self.handleError(record)
        else:
            self._write({"log": [record.name, record.levelno, text]})

    def status(self, status: Status) -> None:
        self._write({"status": asdict(status)})

    def _write(self, answer: dict[str, Any]) -> None:
        try:
            with self._write_lock:
                self._stream.write(json.dumps(answer) + "\n")
                self._stream.flush()
        except OSError:  # the driver is gone
            os._exit(0)


def main() -> None:
    """Sync until the driver sends `finish`, or has ended."""
    answers = Answers(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    logging.getLogger().addHandler(answers)
    status = 1
    try:
        config = WorkerConfig.from_json(json.loads(sys.stdin.readline()))
        quiet_environment()
        loop = Loop(config.sync, config.store, answers.status)
        threading.Thread(target=_listen, args=(loop,), daemon=True).start()
        loop.run()
        status = 0
    except Exception:
        logger.exception("MLflow's worker ended by an error of its own.")
    os._exit(status)  # the other thread waits for input, which Python's exit would wait for


def _listen(loop: Loop) -> None:
    for line in sys.stdin:
        loop.finish(json.loads(line)["finish"])
    os._exit(0)  # without a driver no trial is reported; the next driver starts another process


if __name__ == "__main__":
    main()
