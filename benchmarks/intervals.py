"""Stretches of time that one process notes in a file and another reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

Interval = tuple[float, float]  # when it began and ended, in seconds of one clock


def note(path: Path, interval: Interval) -> None:
    """Add a stretch of time to a file; several processes may."""
    with path.open("a") as file:
        file.write(json.dumps(interval) + "\n")


def noted(path: Path) -> list[Interval]:
    """Return what a file holds, in the order of its beginnings."""
    return sorted((began, ended) for began, ended in map(json.loads, path.read_text().splitlines()))


def within(span: Interval, parts: Sequence[Interval]) -> float:
    """Return how many seconds of a span lie in parts that do not overlap."""
    return sum(max(0.0, min(span[1], ended) - max(span[0], began)) for began, ended in parts)
