"""A writer in a thread of the tests' own process, where starting one costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from balance_tune.studies.tracking.writer import State, Writer
from balance_tune.studies.tracking.writer_process import Order, writer_of


class InThread:
    """What `Courier` is to an outbox; `make` gives the writer, in the thread, what it is to tell its state."""

    pid = None

    def __init__(self, make: Callable[[Callable[[State], None]], Writer]) -> None:
        self._make = make
        self._made = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._heard: Callable[[State], None] = lambda state: None

    @classmethod
    def of(cls, order: Order) -> InThread:
        return cls(partial(writer_of, order))

    def start(self, heard: Callable[[State], None]) -> None:
        self._heard = heard
        self._thread.start()

    def drain(self, number: int) -> None:
        self._made.wait()
        self.writer.drain(number)

    def end(self, grace: float) -> bool:
        self._made.wait()
        self.writer.stop()
        self._thread.join(grace)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.writer = self._make(self._heard)
        finally:
            self._made.set()
        try:
            self.writer.open()
            self.writer.run()
        finally:
            self.writer._spool.close()  # as the end of a process does
