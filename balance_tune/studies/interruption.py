"""Ctrl-C and SIGTERM: the first asks the study to stop cleanly, the second stops it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context manager that turns the two signals into `requested`; outside `patient` they raise KeyboardInterrupt."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.requested = False
        self._patient = False
        self._say = say
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Interruption:
        self.install()
        return self

    def install(self) -> None:
        """Take the signals; again after a library has taken them (Ray does, when it starts)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def __exit__(self, *exc: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """While it lasts, the first signal only sets `requested`: somebody looks at it."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or not self._patient:
            raise KeyboardInterrupt
        self._say("stopping: what is running will go on from here when the study is run again (once more: at once)")
