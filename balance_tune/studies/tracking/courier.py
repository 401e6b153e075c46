"""Keeps the writer's process: starts it, hears of it, and starts it again when somebody has ended it.

A process of its own, at low priority until somebody waits for it: MLflow uses what trials and driver leave of the
machine, and the driver's thread never waits for its interpreter. What the two have in common is the spool's file. The
process ends when its standard input does, so none outlives its driver.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from balance_tune.package import FOLDER
from balance_tune.studies.tracking.writer import State
from balance_tune.studies.tracking.writer_process import Order

PROGRAM = "balance_tune.studies.tracking.writer_process"
SHIELDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a machine that goes down sends them to all processes
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a process that ended is started again
LAST_WAIT = 5.0  # seconds for what was killed to be gone, and for a pipe that nobody reads
NAMES = {number.value: number.name for number in signal.Signals}

logger = logging.getLogger(__name__)


class Courier:
    """The writer's process as its driver sees it. A process that was killed costs what it was sending once more."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._heard: Callable[[State], None] = lambda state: None
        self._lock = threading.Lock()  # of who the process is
        self._pen = threading.Lock()  # of its standard input, which it may be slow to read
        self._over = threading.Event()
        self._hurry = threading.Event()  # cuts a pause short
        self._asked = self._drained = 0  # drains
        self._ended = 0  # processes, unasked
        self._last_words = ""
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._attend, name="mlflow-courier", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process there is, or was last."""
        return None if self._process is None else self._process.pid

    def start(self, heard: Callable[[State], None]) -> None:
        """Have the process started; `heard` is called from a thread with all that it tells."""
        self._heard = heard
        self._thread.start()

    def drain(self, number: int) -> None:
        """Pass a wish of `Outbox.drain` on, now or as soon as there is a process."""
        self._asked = number
        self._hurry.set()
        if self._pen.acquire(timeout=LAST_WAIT):  # else it is being told its order, and of the drain after that
            try:
                if self._process is not None:
                    _tell(self._process, {"drain": number})
            finally:
                self._pen.release()

    def end(self, grace: float) -> bool:
        """Have the process end, within `grace` seconds by itself, then by force. True: it is gone."""
        self._over.set()
        self._hurry.set()
        with self._lock:
            process = self._process
        if process is None:
            return True
        if grace:
            with self._pen:
                _tell(process, {"stop": True})
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        if process.poll() is None:
            process.kill()
        self._thread.join(LAST_WAIT)
        return not self._thread.is_alive()

    def _attend(self) -> None:
        pause = FIRST_PAUSE
        while not self._over.is_set():
            began = time.monotonic()
            how = self._serve()
            if self._over.is_set():
                return
            lasted = time.monotonic() - began > LONGEST_PAUSE
            if lasted or not self._ended:
                logger.warning("MLflow's writer ended (%s); it is started again, entries wait meanwhile.", how)
            self._ended += 1
            self._heard(State(trouble=f"its writer ended ({how})", ended=self._ended))
            if lasted:
                pause = FIRST_PAUSE
            self._hurry.wait(pause if self._asked <= self._drained else FIRST_PAUSE)
            self._hurry.clear()
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self) -> str:
        """Start a process and listen to it until it has ended; return how it did."""
        with self._pen:
            try:
                with self._lock:
                    if self._over.is_set():
                        return ""
                    self._process = process = _started()
            except OSError as error:
                return str(error)
            _tell(process, self._order.to_json())
            if self._asked:
                _tell(process, {"drain": self._asked})
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                self._hear(line)
        status = process.wait()
        with self._pen, contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        return f"status {status}" if status >= 0 else NAMES.get(-status, f"signal {-status}")

    def _hear(self, line: str) -> None:
        try:
            answer = json.loads(line)
            if "log" in answer:
                name, level, text = answer["log"]
                state = None
            else:
                state = State(**answer["state"], ended=self._ended)
        except (ValueError, TypeError, KeyError):  # cut off by its end, or printed before it could know better
            logger.warning("MLflow's writer says: %.200s", line.rstrip())
            return
        if state is not None:
            self._drained = max(state.drained, self._drained)
            self._heard(state)
        elif text != self._last_words:  # a process that ends again and again has the same to say every time
            self._last_words = text
            logging.getLogger(name).log(level, "%s", text)


def _tell(process: subprocess.Popen[str], what: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError):  # it has ended; the next one is told
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()


def _started() -> subprocess.Popen[str]:
    ours = str(FOLDER.parent)  # a model that the driver has loaded may have brought another
    here = [
        ours,
        *(path or os.getcwd() for path in sys.path if isinstance(path, str)),
    ]  # where the driver finds modules
    with _shielded():
        return subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(here)},
            start_new_session=True,
        )


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Block signals for the block; a process that is started in it never gets them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
