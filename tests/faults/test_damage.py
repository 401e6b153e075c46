"""Damaged files: those that can be made again are, the others end in one line, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.storage.records import read_records
from tests.faults.conftest import Trial
from tests.faults.driver import Driver, running, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]


def cut_off(driver: Driver, found: str) -> list[Path]:
    """Run a study until a file such as `found` is there, and kill it; return these files."""
    with running(driver) as process:
        until(lambda: list(driver.folder.rglob(found)) != [], found, every=0.005)
        process.kill()
    assert driver.left_running() == []
    return list(driver.folder.rglob(found))


def finished(driver: Driver) -> int:
    return sum(r.finished for r in read_records(driver.folder))


def last_line(driver: Driver) -> str:
    return driver.said().strip().splitlines()[-1]


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_costs_the_epochs_in_it_and_nothing_else(trial: Trial, keep: float) -> None:
    driver = trial.driver
    (path, *_) = cut_off(driver, "state.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert driver.run() == 0, driver.said()
    trial.passed(f"checkpoint cut to {keep:.0%}")


def test_a_torn_last_line_of_the_journal_is_dropped(trial: Trial) -> None:
    driver = trial.driver
    cut_off(driver, "state.pt")
    with (driver.folder / "optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code": 6, "worker_id": "')
    with (driver.folder / "ledger.jsonl").open("ab") as pruning_log:
        pruning_log.write(b'{"arm": "mul')
    assert driver.run() == 0, driver.said()
    trial.passed("torn last line of journal and pruning log")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optuna.journal", "a line in the middle"),
        ("ledger.jsonl", "a line in the middle"),
        ("study.yaml", "all of it"),
        ("study.json", "all of it"),
    ],
)
def test_a_damaged_record_is_refused_with_one_line_and_left_as_it_is(trial: Trial, name: str, damage: str) -> None:
    driver = trial.driver
    assert driver.run() == 0, driver.said()
    path = driver.folder / name
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[len(lines) // 2] = b"\x00\xff{ nonsense\n"
    damaged = b"\x00\xff" * 100 if damage == "all of it" else b"".join(lines)
    path.write_bytes(damaged)
    driver.log.unlink()
    assert driver.run() == 2, driver.said()
    assert name in last_line(driver)
    assert len(driver.said().strip().splitlines()) == 1, driver.said()
    assert path.read_bytes() == damaged
    trial.refused(f"{name}: {damage} damaged")
    path.write_bytes(whole)
    assert driver.run() == 0, driver.said()
    trial.passed(f"{name} put back")


def test_a_damaged_manifest_of_the_data_is_refused_with_one_line(trial: Trial, tmp_path: Path) -> None:
    driver = trial.driver
    (driver.root / "data").unlink()
    assert driver.run() == 0, driver.said()
    (manifest,) = (driver.root / "data").rglob("manifest.json")
    manifest.write_text("{")
    driver.log.unlink()
    assert driver.run() == 2, driver.said()
    assert len(driver.said().strip().splitlines()) == 1, driver.said()
    assert manifest.read_text() == "{"
    trial.refused("manifest of the data damaged")


def test_a_damaged_tracking_database_does_not_stop_a_study_and_is_not_overwritten(trial: Trial) -> None:
    driver = trial.driver
    database = driver.root / "mlflow.db"
    with running(driver) as process:  # MLflow's worker, which makes it, ends with its driver
        until(database.exists, "the database")
        process.kill()
    whole = database.read_bytes()
    for extra in driver.root.glob("mlflow.db-*"):
        extra.unlink()
    database.write_bytes(b"this is no database" * 1000)
    driver.run()
    assert "Traceback" not in driver.said()
    assert database.read_bytes() == b"this is no database" * 1000
    assert "mlflow" in driver.said().lower()
    database.unlink()
    assert driver.run() == 0, driver.said()
    assert whole
    trial.passed("tracking database damaged, then gone")
