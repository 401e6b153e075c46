"""A small study for clusters, and what its runs came to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from balance_tune.studies.storage.records import TrialRecord, read_records

STUDY: dict[str, Any] = {
    "name": "s",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm"],
    "training": {"epochs": 40, "batch_size": 256},
    "search": {"trials": 2, "early_stopping": {"grace": 1, "reduction": 3}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
    "resources": {"max_concurrent": 1},
}
TIMES = ("device_seconds", "confirm_device_seconds", "lost", "preempted", "repeated")


def leaderboard(root: Path) -> list[dict[str, Any]]:
    """Return the rows of the study below a root, without times and losses."""
    rows = json.loads((root / "s" / "report" / "leaderboard.json").read_text())
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def told(root: Path) -> list[tuple[Any, ...]]:
    """Return what the storage knows of every trial, without times and losses."""
    return [(r.arm, r.phase, r.number, r.state, dict(r.params), r.value, dict(r.curve), r.seed) for r in records(root)]


def weights(root: Path) -> dict[str, bytes]:
    """Return the final weights of every trial that has any."""
    trials = root / "s" / "trials"
    return {str(p.relative_to(trials)): p.read_bytes() for p in sorted(trials.rglob("best.safetensors"))}


def records(root: Path) -> list[TrialRecord]:
    return read_records(root / "s")


def count(root: Path, name: str) -> int:
    """Return a count of losses, summed over the trials."""
    return sum(int(r.attrs.get(name) or 0) for r in records(root))


def living(wanted: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """Yield process id and parent's id of every living process of this user whose command line is wanted."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if wanted(line) and state != "Z" and path.stat().st_uid == os.getuid():
                yield int(path.name), int(parent)
