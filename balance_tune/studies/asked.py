"""Ctrl-C and SIGTERM as a request to end, for a command that serves until then."""

from __future__ import annotations

import signal
from types import FrameType

LOOK_EVERY = 0.2  # seconds between two looks at `to_end`


class Asked:
    """A context manager in which the two signals, however often they come, only set `to_end`.

    An exception could come at any line: one that has just taken a lock nobody would give back, or one whose caller
    swallows every exception.
    """

    def __init__(self) -> None:
        self.to_end = False

    def __enter__(self) -> Asked:
        self._before = [(number, signal.signal(number, self._ask)) for number in (signal.SIGINT, signal.SIGTERM)]
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.to_end = True
