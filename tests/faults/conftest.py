"""The undisturbed study that every disturbed one is held against, and the table of what the faults did."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import Driver
from tests.faults.invariants import Outcome, check, lost_and_duplicated

TABLE = "BALANCE_TUNE_FAULTS_TABLE"  # a file that the table is written to


@dataclass(frozen=True)
class Reference:
    """A study that nothing happened to, how long it took, and a copy of its prepared data."""

    outcome: Outcome
    seconds: float
    data: Path


@dataclass
class Row:
    fault: str
    times: int
    lost: int
    duplicated: int
    cost: float | None  # seconds more than undisturbed, or none where the study came to another end


ROWS: list[Row] = []


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    driver = Driver(tmp_path_factory.mktemp("undisturbed"))
    began = time.monotonic()
    assert driver.run() == 0, driver.said()
    seconds = time.monotonic() - began
    return Reference(check(driver.folder), seconds, driver.root / "data")


@dataclass
class Trial:
    """One fault on one study: `driver` runs it, `passed` checks and records what came of it."""

    driver: Driver
    reference: Reference
    began: float

    def passed(self, fault: str, times: int = 1, *, same: bool = True) -> Outcome:
        """Hold the finished study to the undisturbed one, or with `same` false to the invariants alone."""
        seconds = time.monotonic() - self.began
        found = Outcome.of(self.driver.folder)
        lost, twice = lost_and_duplicated(found, self.reference.outcome, same=same)
        ROWS.append(Row(fault, times, lost, twice, seconds - self.reference.seconds))
        checked = check(self.driver.folder, self.reference.outcome if same else None)
        assert (lost, twice) == (0, 0)
        assert self.driver.left_running() == []
        return checked

    def refused(self, fault: str) -> None:
        """Record a fault that a driver answered with one line, and without touching anything."""
        ROWS.append(Row(fault, 1, 0, 0, None))


@pytest.fixture
def trial(tmp_path: Path, reference: Reference) -> Iterator[Trial]:
    (tmp_path / "data").symlink_to(reference.data)
    driver = Driver(tmp_path)
    yield Trial(driver, reference, time.monotonic())
    left = driver.left_running()
    assert left == [], f"processes of {driver.folder} are left running"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    lines = [
        "| fault | times injected | finished trials lost | duplicated | cost in wall time, s |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        cost = "refused with one line" if row.cost is None else f"{row.cost:+.0f}"
        lines.append(f"| {row.fault} | {row.times} | {row.lost} | {row.duplicated} | {cost} |")
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.write_line(line)
    if os.environ.get(TABLE):
        Path(os.environ[TABLE]).write_text("\n".join(lines) + "\n")
