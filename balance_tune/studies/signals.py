"""Ctrl-C and SIGTERM: the first asks the study to stop cleanly, the second stops it at once.

Ray raises `SystemExit` on SIGTERM from its start until `Interruption.install` takes the signal back; both are treated
alike.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None
SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_AFTER = 0.05  # seconds
INTERRUPTED = 130  # exit status
STOPPED = (KeyboardInterrupt, SystemExit)
PATIENCE = 25.0  # seconds that a clean stop may take; Ray's own is done in ten
LOOK_EVERY = 0.2  # seconds between two looks at `requested` of an `EndRequest`


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM as on Ctrl-C in the context, again where a library swallows it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, _interrupt), sys.unraisablehook

    def on_unraisable(unraisable: Any) -> None:
        _again() if unraisable.exc_type in STOPPED else hook(unraisable)

    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _again() -> None:
    """Send SIGINT to this process a moment later."""
    timer = threading.Timer(AGAIN_AFTER, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()


class Interruption:
    """A context manager that turns the two signals into `requested`; outside `patient` they raise KeyboardInterrupt.

    A signal to the whole process group (systemd, a batch system) ends Ray's own processes too, and Ray then waits for
    them for a minute and aborts. So a stop that takes longer than `PATIENCE` is ended by `leave`; all results are on
    disk by then.
    """

    def __init__(self, say: Callable[[str], None], leave: Callable[[int], Any] = os._exit) -> None:
        self.requested = False
        self._patient = False
        self._say, self._leave = say, leave
        self._before: dict[int, Handler] = {}
        self._timer: threading.Timer | None = None
        self._unraisable = sys.unraisablehook

    def __enter__(self) -> Interruption:
        self.install()
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        return self

    def install(self) -> None:
        """Take the signals; again after a library has taken them (Ray does, when it starts)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def __exit__(self, *exc: object) -> None:
        sys.unraisablehook = self._unraisable
        self.cancel_timeout()
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """A context in which the first signal only sets `requested`."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def cancel_timeout(self) -> None:
        """Cancel the time limit of a clean stop, once Ray has stopped."""
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or not self._patient:
            raise KeyboardInterrupt
        self._timer = threading.Timer(PATIENCE, self._give_up)
        self._timer.daemon = True
        self._timer.start()
        self._say("stopping: what is running will go on from here when the study is run again (once more: at once)")

    def _on_unraisable(self, unraisable: Any) -> None:
        """Send the signal again where its exception was swallowed, in a destructor, say."""
        if unraisable.exc_type not in STOPPED:
            self._unraisable(unraisable)
            return
        self.requested = self._timer is not None  # so that the repeated second signal counts as second
        _again()

    def _give_up(self) -> None:
        self._say("Ray does not stop; all that has ended is on disk, and the study goes on when it is run again")
        self._leave(INTERRUPTED)


class EndRequest:
    """A context manager in which the two signals, however often they come, only set `requested`.

    For a command that serves until it is ended. No exception is raised, because it could come at any line: after one
    that has just taken a lock, or in a caller that swallows every exception.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> EndRequest:
        self._before = [(number, signal.signal(number, self._ask)) for number in (signal.SIGINT, signal.SIGTERM)]
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
