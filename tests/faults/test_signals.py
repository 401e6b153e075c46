"""Ctrl-C and SIGTERM in every stage: a clean stop with status 130, and the study goes on as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from balance_tune.studies.records import read_records
from tests.faults.conftest import Trial
from tests.faults.driver import PATIENCE, running, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]


def reached(phase: str) -> Callable[[Path], bool]:
    def there(folder: Path) -> bool:
        found = [r for r in read_records(folder) if r.phase == phase] if (folder / "optuna.journal").exists() else []
        return any(r.curve for r in found)

    return there


STAGES: dict[str, Callable[[Path], bool]] = {
    "start": lambda folder: (folder / "lock").exists(),
    "start of Ray": lambda folder: (folder / "optuna.journal").exists(),
    "search": reached("search"),
    "selection": reached("select"),
    "confirmation": reached("confirm"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_in_each_stage_stops_cleanly_and_the_study_goes_on(trial: Trial, number: signal.Signals) -> None:
    driver = trial.driver
    for stage, there in STAGES.items():
        with running(driver) as process:
            until(lambda p=process, there=there: there(driver.folder) or p.poll() is not None, stage, every=0.1)
            process.send_signal(number)
            status = process.wait(timeout=PATIENCE)
            # until `ray.init` returns, Ray's C++ answers SIGTERM by the system's own death, and Python cannot hinder it
            died = stage == "start of Ray" and status == -signal.SIGTERM == -number
            assert status == 130 or died, f"{stage}: {status}: {driver.said()}"
        assert "Traceback" not in driver.said()
        assert driver.left_running() == []
    assert driver.run() == 0, driver.said()
    trial.passed(f"{number.name} in each stage", len(STAGES))
