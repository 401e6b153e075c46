"""Two thousand trials in one study: memory, threads and open files of driver and actors stay what they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import MARK, Driver, running, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]
TRIALS, EARLY = 2000, 200
LONG: dict[str, Any] = {
    "name": "long",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm"],
    "training": {"epochs": 2, "batch_size": 512},
    "search": {"trials": TRIALS // 2, "sampler": "random", "early_stopping": "none"},
    "select": {"points": 1, "seeds": 0},
    "confirm": {"seeds": 2, "default_seeds": 0},
}


def test_two_thousand_trials_leave_driver_and_actors_as_they_were(tmp_path: Path) -> None:
    driver = Driver(tmp_path, LONG)
    with running(driver) as process:
        until(lambda: begun(driver) >= EARLY, f"{EARLY} trials", patience=900, every=0.5)
        early = {"driver": used(process.pid), **actors(driver)}
        until(lambda: begun(driver) >= TRIALS, f"{TRIALS} trials", patience=3600, every=0.5)
        late = {"driver": used(process.pid), **actors(driver)}
        assert process.wait(timeout=900) == 0, driver.said()
    for name, before in early.items():
        print(name, before, late.get(name))
    assert len(early) >= 2, "driver and at least one actor"
    for name, (memory, threads, files) in early.items():
        if name in late:
            assert late[name][0] <= 1.1 * memory, f"{name}: {memory} kB at trial {EARLY}, {late[name][0]} at {TRIALS}"
            assert late[name][1] <= threads + 8, f"{name}: threads"
            assert late[name][2] <= files + 16, f"{name}: open files"


def begun(driver: Driver) -> int:
    """Return how many trials have begun."""
    arms = [Path(arm) for arm in (driver.folder / "trials").glob("*/*")]
    return sum(len(os.listdir(arm)) for arm in arms)


def used(pid: int) -> tuple[int, int, int]:
    """Return a process's resident memory in kB, its threads, and its open files."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(WANTED)
    )
    return int(status["VmRSS"].split()[0]), int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


WANTED = ("VmRSS", "Threads")


def actors(driver: Driver) -> dict[str, tuple[int, int, int]]:
    """Return process id -> what the study's trial actors use."""
    found = {}
    wanted = f"{MARK}={driver.mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "cmdline").read_bytes()
            if name.startswith(b"ray::") and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[entry.name] = used(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return {pid: use for pid, use in found.items() if use[0] > 300_000}  # torch is loaded: an actor of trials
