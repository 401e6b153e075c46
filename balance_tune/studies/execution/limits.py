"""The study's own limits: hours of this run, device-hours of all its runs together."""

from __future__ import annotations

import time
from collections.abc import Callable

from balance_tune.studies.config.schema import Limit


class Limits:
    """Detects that a study has reached one of its limits.

    `hours` counts from the start of this run of the study (a night on the cluster), so that a study that reached it
    goes on when it is run again; `device_hours` counts all runs of it, trial by trial.
    """

    def __init__(
        self, limit: Limit, device_seconds: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._device_seconds, self._clock = limit, device_seconds, clock
        self._began = clock()

    def limit_reached(self) -> str:
        """Return which limit is reached, in words, or nothing."""
        hours, device_hours = self._limit.hours, self._limit.device_hours
        if hours is not None and self._clock() - self._began >= hours * 3600:
            return f"limit.hours = {hours:g} is used up"
        if device_hours is not None and self._device_seconds() >= device_hours * 3600:
            return f"limit.device_hours = {device_hours:g} is used up"
        return ""
