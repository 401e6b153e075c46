"""Detects that a node is about to be taken away, and tells the loss of a node from a fault of the trial."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from balance_tune.studies.private_apis import draining_nodes

LOOK_EVERY = 2.0  # seconds between two questions to the head
NODE_LOST = re.compile(r"its node has died|node was terminated|NodeDiedError|\bPreempted\b")
SILENT = re.compile(r"The actor \w+ is unavailable")


class Preempted(Exception):
    """The trial's node is about to be taken away; its state is on disk, and the process ends with the trial."""


class DrainCheck:
    """Says whether the node of this process is being drained; asks at most every two seconds."""

    def __init__(self, drains: Callable[[], bool] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = drains or node_drains, clock
        self._last: float | None = None
        self._drains = False

    def __call__(self) -> bool:
        now = self._clock()
        if not self._drains and (self._last is None or now - self._last >= LOOK_EVERY):
            self._last, self._drains = now, self._ask()
        return self._drains


def node_drains() -> bool:
    """Return whether Ray drains the node of this process: its machine will be taken away, and gets no new work."""
    import ray

    if not ray.is_initialized():
        return False
    return ray.get_runtime_context().get_node_id() in draining_nodes()  # what Ray Train itself asks


def node_lost(words: str, several: bool = False) -> bool:
    """Return whether a trial's process ended with its node, judging by Ray's message.

    A node that dies without notice is unreachable at first. With `several` nodes that counts as a lost node, because
    the raylet of a living node gives a reason when a process dies.
    """
    return bool(NODE_LOST.search(words)) or (several and bool(SILENT.search(words)))
