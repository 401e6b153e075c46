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
METRIC_PREFIXES = ("val/", "train/", "modulation/", "time/")  # of the rows of earlier epochs in a report
EPOCH_STATES = ("running", "complete")  # a key that every row of an epoch has


class BatchedReporter:
    """Passes rows to `report`: at once where a row ends the trial or is at a rung, others with the next such row.

    A report costs driver and trial some milliseconds each, and the trial waits for the driver. `rung_epochs` are the
    epochs at which early stopping decides. Rows that are held back when a process dies are read from the trial's
    history later.

    The workers of a group have to report together, so no clock may decide: with `every` 0 only replayed epochs are held
    back.
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
    """Yield the rows of all epochs in a report, in their order."""
    yield from report.get(EARLIER, ())
    if report.get("state", "running") in EPOCH_STATES and "epoch" in report:
        yield report
