"""What a study stands on gives way: disk, clock, MLflow, PostgreSQL; or another driver comes."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from balance_tune.studies.storage.database import URL
from balance_tune.studies.storage.files import DATABASE, JOURNAL
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.tracking.worker import PROGRAM
from tests.faults.conftest import Trial
from tests.faults.driver import PATIENCE, Driver, end, running, until
from tests.studies.postgres import PASSWORD, Postgres, binaries, server

pytestmark = [pytest.mark.ray, pytest.mark.faults]
KILLS = 4


def ended(driver: Driver) -> int:
    """Return how many trials have ended."""
    there = any((driver.folder / name).exists() for name in (JOURNAL, DATABASE))
    return sum(r.finished for r in read_records(driver.folder)) if there else 0


def test_a_second_driver_is_refused_and_told_who_the_first_is(trial: Trial) -> None:
    driver = trial.driver
    with running(driver) as first:
        until(lambda: ended(driver) > 0, "a trial to end", every=0.1)
        second = subprocess.run(driver.command(), env=driver.surroundings(), capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert f"process {first.pid}" in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
        assert first.wait(timeout=PATIENCE) == 0, driver.said()
    trial.passed("a second driver")


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_changes_nothing(trial: Trial, days: int) -> None:
    program = ("-m", "tests.faults.jumping_clock", str(days))
    driver = dataclasses.replace(trial.driver, program=program)
    assert driver.run() == 0, driver.said()
    trial.passed(f"clock jumps by {days:+d} day")


def test_a_full_disk_ends_a_study_cleanly_and_it_goes_on_when_there_is_room(trial: Trial) -> None:
    driver = trial.driver
    driver.folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(driver.folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        ballast = driver.folder / "ballast"
        with running(driver) as process:
            until(lambda: ended(driver) > 1, "two trials to end", every=0.1)
            fill(ballast)
            assert process.wait(timeout=PATIENCE) == 1, driver.said()
        assert "No space left on device" in driver.said()
        assert "Traceback" not in driver.said()
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(driver.folder)], check=True)
        assert driver.run() == 0, driver.said()
        trial.passed("disk full")
    finally:
        subprocess.run(["umount", "-l", str(driver.folder)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(b"0" * size):
                    pass
            except OSError:
                continue


def test_mlflow_that_goes_and_returns_loses_nothing(trial: Trial) -> None:
    driver = trial.driver
    port = free_port()
    driver = dataclasses.replace(driver, environment={"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"})
    driver.root.mkdir(exist_ok=True)
    with mlflow_server(driver, port) as server, running(driver) as process:
        until(lambda: ended(driver) > 1, "two trials to end", every=0.1)
        end(server)
        before = ended(driver)
        until(lambda: ended(driver) > before + 1 or process.poll() is not None, "two more without MLflow", every=0.1)
        with mlflow_server(driver, port):
            assert process.wait(timeout=PATIENCE) == 0, driver.said()
    trial.passed("MLflow gone and back")


def test_mlflows_worker_that_is_killed_loses_nothing(trial: Trial) -> None:
    driver, moments, killed = trial.driver, random.Random(0), set[int]()
    with running(driver) as process:
        while process.poll() is None:
            until(lambda: process.poll() is not None or bool(workers(driver) - killed), "MLflow's worker", every=0.05)
            time.sleep(moments.uniform(0.0, 3.0))
            if len(killed) < KILLS:
                for pid in workers(driver) - killed:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
        assert process.wait(timeout=PATIENCE) == 0, driver.said()
    assert killed
    trial.passed("MLflow's worker killed (-9)", len(killed))


def workers(driver: Driver) -> set[int]:
    """Return the processes that write to MLflow for a driver; more than one only while the first ends."""
    return {int(line.partition(":")[0]) for line in driver.processes() if f"-m {PROGRAM}" in line}


@pytest.fixture
def database(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """PostgreSQL, in which the study's trials are."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with server(programs) as running:
        monkeypatch.setenv(URL, running.url)
        yield running


def test_postgresql_that_goes_and_returns_loses_nothing(trial: Trial, database: Postgres) -> None:
    driver = trial.driver
    with running(driver) as process:
        until(lambda: ended(driver) > 1, "two trials to end", every=0.2)
        database.stop()
        time.sleep(10)
        database.start()
        status = process.wait(timeout=PATIENCE)
    if status:  # it went in the middle of a statement
        assert status == 1, driver.said()
        until(lambda: driver.run() == 0, "the driver's lease to run out and the study to end", every=5.0)
    assert "Traceback" not in driver.said()
    assert PASSWORD not in driver.said()
    trial.passed("PostgreSQL gone and back")


def test_postgresql_that_stays_away_ends_a_study_cleanly_and_it_goes_on_later(trial: Trial, database: Postgres) -> None:
    driver = dataclasses.replace(trial.driver, environment={"BALANCE_TUNE_OUTAGE_S": "1"})
    with running(driver) as process:
        until(lambda: ended(driver) > 1, "two trials to end", every=0.2)
        database.stop()
        assert process.wait(timeout=PATIENCE) == 1, driver.said()
    assert "Traceback" not in driver.said()
    assert "does not answer any more" in driver.said()
    database.start()
    until(lambda: driver.run() == 0, "the driver's lease to run out and the study to end", every=5.0)
    trial.passed("PostgreSQL gone for ten minutes")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(driver: Driver, port: int) -> Iterator[subprocess.Popen[bytes]]:
    store = ["--backend-store-uri", f"sqlite:///{driver.root / 'mlflow.db'}"]
    files = ["--serve-artifacts", "--artifacts-destination", str(driver.root / "mlartifacts")]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (driver.root / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *files, *where],
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_TRACKING_URI": ""},
            start_new_session=True,
        )
    try:
        until(lambda: answers(port), "MLflow to answer", every=0.2)
        yield server
    finally:
        group = server.pid
        end(server)
        shutil.os.killpg(group, 9) if alive(group) else None


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
