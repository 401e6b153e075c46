"""Processes that stand still while others run, so that both sides of a comparison meet the same minutes of the machine.

A shared machine's speed moves within a minute by more than what is measured. One side after the other compares two
minutes; in turns of a few seconds both have a share of each.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence

import psutil

from benchmarks.intervals import Interval


class Side:
    """Some processes with all that they start; every stretch of time in which they ran is kept.

    They are held from the beginning: `run` lets them go, `hold` stops them. Left, a side runs on, its time uncounted.
    The clock is `time.perf_counter`, which all processes of a machine share.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._known: dict[int, psutil.Process] = {}
        self._since: float | None = None
        self.ran: list[Interval] = []
        self._stop_others()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold()
        self._send(signal.SIGCONT)

    @property
    def seconds(self) -> float:
        """For how long the side has run."""
        return sum(until - since for since, until in self.ran)

    def run(self) -> None:
        """Let the processes go on."""
        if self._since is None:
            self._since = time.perf_counter()
            self._send(signal.SIGCONT)

    def hold(self) -> None:
        """Stop the processes, and those that they have started meanwhile."""
        if self._since is not None:
            self._send(signal.SIGSTOP)
            self.ran.append((self._since, time.perf_counter()))
            self._since = None
            self._stop_others()

    def _stop_others(self) -> None:
        while new := {process.pid: process for process in self._tree() if self._known.get(process.pid) != process}:
            self._known.update(new)
            for process in new.values():
                _send(process, signal.SIGSTOP)

    def _send(self, what: signal.Signals) -> None:
        for process in self._known.values():
            _send(process, what)

    def _tree(self) -> Iterator[psutil.Process]:
        for root in self._roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from (root, *root.children(recursive=True))


def _send(process: psutil.Process, what: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(what)
