"""Supervises the process that writes to MLflow: starts it, reads its messages, and restarts it when it has ended.

It is a process of its own, so trials and driver do not wait for MLflow. It opens the store at a normal priority, before
the first trial trains, and has a low one while trials run. At the end it gets a normal one again; where the system does
not allow that, a second process takes over. Any process may be killed: what was written is in MLflow, and the next one
writes the rest. A process ends with its driver.
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
from pathlib import Path
from typing import Any

from balance_tune.package import FOLDER
from balance_tune.studies.tracking.worker_process import Status, WorkerConfig

PROGRAM = "balance_tune.studies.tracking.worker_process"
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a machine that goes down sends them to all processes
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a process that ended is started again
GRACE = 60.0  # seconds without any progress after which the driver does not wait any longer
LIVES = 5  # processes that may end while the driver waits
LAST_WAIT = 5.0  # seconds to wait for a killed process
LOW = 10  # priority: some 9 % of a busy core, with which MLflow follows a study of short trials; at 19 it falls behind
NAMES = {number.value: number.name for number in signal.Signals}

logger = logging.getLogger(__name__)


class Worker:
    """The process as its driver sees it.

    Args:
        config: what the process needs to know.
        patience: seconds for which `finish` waits for a store that does not answer, from when it stopped answering.
        background: whether trials run, so that it gets a low priority once the store is open.
    """

    def __init__(self, config: WorkerConfig, patience: float, *, background: bool) -> None:
        self._config, self._patience, self._background = config, patience, background
        self._changed = threading.Condition()  # of all that follows
        self._status = Status()
        self._last_answer = self._trouble_since = 0.0  # on the monotonic clock
        self._n_ended = 0  # number of processes that ended by themselves
        self._replacing = self._over = False
        self._final = ""
        self._last_log = ""
        self._process: subprocess.Popen[str] | None = None
        self._lowered: int | None = None  # the process with a low priority
        self._thread = threading.Thread(target=self._attend, name="mlflow-worker", daemon=True)

    @property
    def pid(self) -> int | None:
        """The id of the current or last process."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process."""
        self._thread.start()

    def raise_priority(self) -> None:
        """Give the process a normal priority; one that may not have it is replaced by another, which goes on."""
        with self._changed:
            self._background, lowered, self._lowered = False, self._lowered, None
            if lowered is None or set_priority(lowered, os.getpriority(os.PRIO_PROCESS, 0)):
                return
            self._replacing = True
            self._kill()
            self._changed.notify_all()

    def finish(self, state: str, on_progress: Callable[[Status], None] = lambda status: None) -> bool:
        """Have all of the study written, and end the process; `on_progress` is called about once a second.

        Waits as long as there is progress, at most `patience` for a store that does not answer, and not for a process
        that ends repeatedly.

        Returns:
            Whether MLflow has everything.
        """
        self.raise_priority()
        with self._changed:
            self._final, self._last_answer = state, time.monotonic()
            lives = self._n_ended + LIVES
            self._tell({"finish": state})
            self._changed.notify_all()
            try:
                while not self._status.done and self._n_ended < lives and self._waits():
                    if not self._changed.wait(1.0):
                        on_progress(self._status)
            finally:
                self._over = True
                whole = self._status.done and self._status.whole
                if not self._status.done:
                    self._kill()
                self._changed.notify_all()
        self._thread.join(LAST_WAIT)
        return whole

    def _waits(self) -> bool:
        now = time.monotonic()
        if self._status.trouble:
            return now - self._trouble_since < self._patience
        return now - self._last_answer < GRACE

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _tell(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it has ended; the next one gets it
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()

    def _attend(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            reason = self._serve()
            with self._changed:
                if self._over or self._status.done:
                    return
                if self._replacing:
                    self._replacing = False
                    continue
                long = time.monotonic() - began > LONGEST_PAUSE
                if long or not self._n_ended:
                    logger.warning("MLflow's worker ended (%s); it is started again.", reason)
                self._n_ended += 1
                pause = FIRST_PAUSE if long else pause
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over or self._replacing or bool(self._final), pause)
                self._replacing = False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self) -> str:
        """Start a process and listen to it until it has ended; return how it did."""
        with self._changed:
            if self._over:
                return ""
            try:
                process = self._process = _start_process()
            except OSError as error:
                return str(error)
            self._tell(self._config.to_json())
            if self._final:
                self._tell({"finish": self._final})
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                self._hear(line)
        status = process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        return f"status {status}" if status >= 0 else NAMES.get(-status, f"signal {-status}")

    def _hear(self, line: str) -> None:
        try:
            answer = json.loads(line)
            status = Status(**answer["status"]) if "status" in answer else None
            name, level, text = answer.get("log", ("", 0, ""))
        except (ValueError, TypeError, KeyError, AttributeError):  # cut off by its end, or printed by a library
            logger.warning("MLflow's worker says: %.200s", line.rstrip())
            return
        if status is None:
            if text != self._last_log:  # a process that ends repeatedly logs the same each time
                self._last_log = text
                logging.getLogger(name).log(level, "%s", text)
            return
        with self._changed:
            self._last_answer = time.monotonic()
            if status.trouble and not self._status.trouble:
                self._trouble_since = self._last_answer
            self._status = status
            is_open = status == Status()  # a pass is over
            if self._background and is_open and self.pid is not None and self.pid != self._lowered:
                self._lowered = self.pid
                set_priority(self.pid, os.getpriority(os.PRIO_PROCESS, 0) + LOW)
            if status.done:
                self._changed.notify_all()


def set_priority(pid: int, nice: int) -> bool:
    """Set the priority of a process of its own session; return whether it has it now.

    Desktops share the processor by sessions first, so that of the session is set too. Without privileges a process
    cannot get a higher priority than it has.
    """
    with contextlib.suppress(OSError):  # only some systems have it
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    try:
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    except OSError:  # not allowed, or it has ended
        return False
    return True


def _start_process() -> subprocess.Popen[str]:
    ours = str(FOLDER.parent)  # a model that the driver has loaded may have brought another
    path = [ours, *(entry or os.getcwd() for entry in sys.path if isinstance(entry, str))]  # the driver's modules
    with _signals_blocked():
        return subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in the context; a process that is started in it never gets them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
