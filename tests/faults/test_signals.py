"""Ctrl-C and SIGTERM in every stage: a clean stop with status 130, and the study goes on as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from balance_tune.studies.storage.records import read_records
from tests.faults.conftest import Trial
from tests.faults.driver import PATIENCE, Driver, running, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]


def reached(phase: str) -> Callable[[Driver], bool]:
    def there(driver: Driver) -> bool:
        journal = driver.folder / "optuna.journal"
        found = [r for r in read_records(driver.folder) if r.phase == phase] if journal.exists() else []
        return any(r.curve for r in found)

    return there


STAGES: dict[str, Callable[[Driver], bool]] = {
    "start": lambda driver: (driver.folder / "lock").exists(),
    "start of Ray": lambda driver: any("gcs_server" in words for words in driver.processes()),
    "search": reached("search"),
    "selection": reached("select"),
    "confirmation": reached("confirm"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_in_each_stage_stops_cleanly_and_the_study_goes_on(trial: Trial, number: signal.Signals) -> None:
    driver = trial.driver
    for stage, there in STAGES.items():
        with running(driver) as process:
            until(lambda p=process, there=there: there(driver) or p.poll() is not None, stage, every=0.1)
            process.send_signal(number)
            assert process.wait(timeout=PATIENCE) == 130, f"{stage}: {driver.said()}"
        assert "Traceback" not in driver.said()
        assert driver.left_running() == []
    assert driver.run() == 0, driver.said()
    trial.passed(f"{number.name} in each stage", len(STAGES))
