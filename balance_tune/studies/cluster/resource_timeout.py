"""Ends a study's wait for machines that never come; Ray itself waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class ResourceTimeout:
    """Says when trials have waited too long in a row for resources, and what they waited for."""

    def __init__(
        self,
        needs: Mapping[str, float],
        patience: float,
        have: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs, self._patience, self._have, self._clock = needs, patience, have, clock
        self._since: float | None = None

    def look(self, waits: bool) -> str:
        """Return why the study ends, or nothing; `waits`: trials are due and not one of them has its resources."""
        now = self._clock()
        if not waits:
            self._since = None
            return ""
        self._since = now if self._since is None else self._since
        if now - self._since < self._patience:
            return ""
        return too_long(self._needs, self._patience, self._have())


def too_long(needs: Mapping[str, float], seconds: float, have: Mapping[str, float]) -> str:
    """Return what is to be said of resources that have not come."""
    request = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
    there = ", ".join(f"{name} {have.get(name, 0):g}" for name, amount in needs.items() if amount)
    return (
        f"for {seconds / 60:.3g} minutes no trial got what it needs ({request}), and the cluster has ({there}); "
        "see `ray status`, lower `resources`, or raise `resources.wait_minutes`"
    )
