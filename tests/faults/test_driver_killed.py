"""The driver is killed, over and over, at moments nobody chose: the study comes to the same end."""

from __future__ import annotations

import random
import time

import pytest

from balance_tune.studies.storage.records import read_records
from tests.faults.conftest import Trial
from tests.faults.driver import running, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]
KILLS = 20


def test_killed_twenty_times_at_random_moments_a_study_comes_to_the_same_end(trial: Trial) -> None:
    moments, driver, kills = random.Random(0), trial.driver, 0
    scratch = driver.folder / ".tune"
    while kills < KILLS:
        with running(driver) as process:
            if kills % 4:  # else while it starts
                until(lambda p=process: scratch.exists() or p.poll() is not None, "the study to get going")
            time.sleep(moments.uniform(0.0, 2.5))
            if process.poll() is not None:
                break
            process.kill()
            kills += 1
        assert driver.left_running() == []
    assert kills >= KILLS // 2, f"the study was over after {kills} kills: make it longer"
    assert driver.run() == 0, driver.said()
    trial.passed("driver killed (-9)", kills)


def test_killed_while_it_writes_the_report_a_study_comes_to_the_same_end(trial: Trial) -> None:
    driver = trial.driver
    expected = len(trial.reference.outcome.records)
    with running(driver) as process:
        until(
            lambda: (
                (driver.folder / "optuna.journal").exists()
                and sum(r.finished for r in read_records(driver.folder)) == expected
            ),
            "all trials to end",
            every=0.2,
        )
        process.kill()
    assert driver.run() == 0, driver.said()
    trial.passed("driver killed before the report")
