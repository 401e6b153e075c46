"""Reports of a trial to its driver. Epochs of a few milliseconds are reported several at a time.

A report is a row of metrics (one epoch, or how the trial failed); under `EARLIER` it holds the rows of the epochs
before it that were not reported yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from balance_tune.timeouts import seconds

Report = Callable[[dict[str, Any]], None]

MOST = 100  # epochs in one report
EARLIER = "earlier"
METRIC_PREFIXES = ("val/", "train/", "modulation/", "time/")  # of what a row says of an epoch
EPOCH_STATES = ("running", "complete")  # of a row that tells an epoch


class BatchedReporter:
    """Hands rows to `report`: those that end a trial or are decided on at once, others with the next of them.

    A report of its own costs driver and trial some milliseconds each, and the trial waits until the driver has dealt
    with it. `rung_epochs` are the epochs that early stopping looks at. What is held back when a process dies is lost
    here, but not from the trial's history.

    The workers of a group have to report together, whatever their clocks say: with `every` 0 nothing but epochs that
    are reported again is held back.
    """

    def __init__(
        self,
        report: Report,
        rung_epochs: Collection[int],
        *,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._rung_epochs, self._clock = report, frozenset(rung_epochs), clock
        self._every = seconds("BALANCE_TUNE_REPORT_EVERY_S") if every is None else every
        self._held: list[dict[str, Any]] = []
        self._last = clock()

    def __call__(self, row: dict[str, Any]) -> None:
        if not self._due(row):
            self._held.append(row)
            return
        earlier, self._held = self._held, []
        self._report({**row, EARLIER: earlier} if earlier else row)
        self._last = self._clock()

    def _due(self, row: Mapping[str, Any]) -> bool:
        if row["state"] != "running" or row["epoch"] in self._rung_epochs or row.get("draining"):
            return True
        if len(self._held) >= MOST - 1:
            return True
        return not (self._every == 0 and row.get("replayed")) and self._clock() - self._last >= self._every


def epochs_of(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of the epochs that a report tells, in their order."""
    yield from report.get(EARLIER, ())
    if report.get("state", "running") in EPOCH_STATES and "epoch" in report:
        yield report
