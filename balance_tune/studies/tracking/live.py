"""What is held of a running trial before it goes into the queue: its epochs of milliseconds, told together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from balance_tune.studies.tracking.runs import TAG, Row, Update

TOGETHER = 1.0  # seconds; epochs that are reported sooner after what was told last wait for the next, or for the end


@dataclass
class Live:
    """A running trial, and what of it is not in the queue yet.

    A line of the queue for each epoch would cost driver and writer as much again as all else that is told of a short
    trial. What a killed driver held is told by the trial when it goes on, from its history, or by `Tracker.reconcile`.
    """

    rows: list[Row] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    told: float = field(default_factory=time.monotonic)
    host: str = ""

    def heard(self, rows: Sequence[Row], host: str) -> None:
        """Take the epochs of a report; the first that names the trial's host makes it a tag."""
        self.rows += rows
        if host and not self.host:
            self.host = self.tags[TAG + "host"] = host

    @property
    def due(self) -> bool:
        return time.monotonic() - self.told >= TOGETHER

    def take(self, update: Update) -> Update:
        """Return the update with all that is held, which is told by it; its own tags win."""
        update.rows, update.tags = [*update.rows, *self.rows], self.tags | update.tags
        self.rows, self.tags, self.told = [], {}, time.monotonic()
        return update
