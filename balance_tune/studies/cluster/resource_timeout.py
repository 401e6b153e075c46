"""Limits how long a study waits for resources. Ray itself waits without a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class ResourceTimeout:
    """Detects that trials have waited too long without a break for resources, and says for which."""

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
    """Return the message about resources that are missing."""
    request = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
    there = ", ".join(f"{name} {have.get(name, 0):g}" for name, amount in needs.items() if amount)
    return (
        f"for {seconds / 60:.3g} minutes no trial got what it needs ({request}), and the cluster has ({there}); "
        "see `ray status`, lower `resources`, or raise `resources.wait_minutes`"
    )
