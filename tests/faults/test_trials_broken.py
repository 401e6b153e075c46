"""What may happen to a trial: bad luck is repeated, its own fault is recorded and spends its place in the budget."""

from __future__ import annotations

import dataclasses

import pytest

from tests.faults.conftest import Trial
from tests.faults.invariants import check
from tests.faults.traps import lay

pytestmark = [pytest.mark.ray, pytest.mark.faults]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("dies", "process of a trial killed (-9)"),
        ("host memory", "no memory on the host"),
        ("hangs", "a trial hangs"),
    ],
)
def test_bad_luck_is_repeated_and_changes_nothing(trial: Trial, fault: str, told: str) -> None:
    driver = trial.driver
    if fault == "hangs":
        driver = dataclasses.replace(driver, environment={"BALANCE_TUNE_SILENCE_S": "15"})
    lay(driver.traps, fault)
    assert driver.run() == 0, driver.said()
    assert not (driver.traps / fault).exists(), "the fault never struck"
    found = trial.passed(told)
    assert sum(int(r.attrs.get("lost", 0)) for r in found.records) >= 1


def test_a_full_device_is_met_with_smaller_pieces_of_the_same_batch(trial: Trial) -> None:
    driver = trial.driver
    lay(driver.traps, "device memory")
    assert driver.run() == 0, driver.said()
    found = trial.passed("no memory on the device", same=False)
    assert [r.attrs["micro_batch"] for r in found.records if "micro_batch" in r.attrs] == [32]
    assert all(r.state != "failed" for r in found.records)


def test_several_workers_meet_a_full_device_in_the_same_way(trial: Trial) -> None:
    small = {"search": {"trials": 1, "early_stopping": "none"}, "confirm": {"seeds": 2, "default_seeds": 1}}
    study = {**trial.driver.study, **small, "resources": {"workers": 2, "max_concurrent": 1}}
    driver = dataclasses.replace(trial.driver, study=study)
    lay(driver.traps, "device memory")
    assert driver.run() == 0, driver.said()
    found = check(driver.folder)  # a smaller study than the others', so that it is no row of their table
    assert [r.attrs["micro_batch"] for r in found.records if "micro_batch" in r.attrs] == [16]
    assert all(r.state != "failed" for r in found.records)


@pytest.mark.parametrize("fault", ["nan loss", "inf loss", "nan gradient", "inf gradient", "exception"])
def test_a_trials_own_fault_is_recorded_and_spends_its_place(trial: Trial, fault: str) -> None:
    driver = trial.driver
    lay(driver.traps, fault)
    assert driver.run() == 0, driver.said()
    assert not (driver.traps / fault).exists(), "the fault never struck"
    found = trial.passed(f"{fault} in a trial", same=False)
    (failed,) = [r for r in found.records if r.state == "failed"]
    words = {"exception": "RuntimeError: a hook of the method broke", "nan loss": "is nan in epoch 3"}
    assert words.get(fault, " in epoch 3") in failed.attrs["reason"]


def test_a_disk_that_is_full_for_a_trial_stops_the_study_which_then_goes_on(trial: Trial) -> None:
    driver = trial.driver
    lay(driver.traps, "disk full")
    assert driver.run() == 1, driver.said()
    assert "No space left on device" in driver.said()
    assert driver.run() == 0, driver.said()
    trial.passed("a trial finds the disk full")
