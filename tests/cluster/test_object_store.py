"""Studies whose root is a bucket, with PostgreSQL beside it: nothing that counts is on the driver's machine."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from balance_tune.studies.storage.database_lock import EXPIRY
from balance_tune.studies.storage.pruning_table import download_study
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.runs import TAG
from tests.faults.driver import Driver, running, until
from tests.faults.invariants import Outcome, check
from tests.studies.bucket import SECRET, Bucket, endpoint, made
from tests.studies.postgres import PASSWORD, binaries, server

pytestmark = pytest.mark.cluster
KILLS = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The study on a local root."""
    driver = Driver(tmp_path_factory.mktemp("undisturbed"))
    assert driver.run() == 0, driver.said()
    return check(driver.folder)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bucket, str]]:
    """An empty bucket, and the URL of an empty database."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with endpoint(monkeypatch) as address, server(programs) as database:
        monkeypatch.setenv("BALANCE_TUNE_STORAGE", database.url)
        yield made(address, f"studies-{uuid.uuid4().hex}"), database.url  # the server's memory outlives it


@pytest.fixture
def driver(tmp_path: Path, stores: tuple[Bucket, str]) -> Iterator[Driver]:
    """A driver of the study in the bucket; what it keeps on its machine is in `cache`."""
    (tmp_path / "seen").mkdir()
    environment = {
        "BALANCE_TUNE_CACHE": str(tmp_path / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'seen' / 'mlflow.db'}",
    }
    made = Driver(tmp_path, environment=environment, place=stores[0].uri)
    yield made
    assert made.left_running() == []


def outcome(driver: Driver, bucket: Bucket, expected: Outcome, patch: pytest.MonkeyPatch) -> Outcome:
    """Check what another machine sees of the study."""
    folder = driver.root / "seen" / "faults"
    download_study(StudyFolder.at(folder, (bucket.uri, folder.name)))
    found = check(folder, expected)
    curves = {(r.arm, f"{r.phase} {r.number}"): list(r.curve) for r in found.records}
    assert epochs_in_mlflow(folder) == curves
    return found


def epochs_in_mlflow(folder: Path) -> dict[tuple[str, str], list[int]]:
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return {
        (tags[TAG + "arm"], f"{tags[TAG + 'phase']} {tags[TAG + 'number']}"): [
            metric.step for metric in client.get_metric_history(run.info.run_id, "val/accuracy")
        ]
        for run in runs
        if TAG + "number" in (tags := run.data.tags)
    }


def keys(bucket: Bucket) -> set[str]:
    return {key.rpartition("/")[2] for key in bucket.objects("studies/faults")}


def look(driver: Driver, *words: str) -> subprocess.CompletedProcess[str]:
    """Run another command on the study."""
    command = [sys.executable, "-m", "balance_tune", *words, "--root", driver.place]
    return subprocess.run(
        command, env=driver.surroundings(), cwd=driver.root, capture_output=True, text=True, timeout=300
    )


def test_a_study_in_a_bucket_comes_to_the_end_of_one_in_a_folder_and_every_command_finds_it(
    driver: Driver, stores: tuple[Bucket, str], undisturbed: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = stores[0]
    assert driver.run() == 0, driver.said()
    outcome(driver, bucket, undisturbed, monkeypatch)
    assert not {"state.pt", "lock", "mlflow.sync", "optuna.journal", "ledger.jsonl"} & keys(bucket)
    shutil.rmtree(driver.root / "cache")  # all of them as on a machine that has seen nothing of the study
    for words, told in (
        (("status", "faults"), "faults is not running"),
        (("report", "faults"), f"The whole report: s3://{bucket.name}/studies/faults/report/index.html"),
        (("best", "faults", "--export", "out"), "# its model is in"),
        (("export", "faults"), "faults.sqlite3"),
        (("evaluate", "models:/faults-multiple_features@champion", "--data", "multiple_features"), "accuracy"),
        (("status", "fault"), f"there is no `fault` in s3://{bucket.name}/studies. Did you mean `faults`?"),
    ):
        done = look(driver, *words)
        assert told in done.stdout + done.stderr, words
    said = driver.said()
    code = (".py", ".pyc", ".arrow")  # models carry the method's package, which is that of the tests here
    kept = b"".join(p.read_bytes() for p in driver.root.rglob("*") if p.is_file() and p.suffix not in code)
    stored = b"".join(bucket.read(key) for key in bucket.objects() if not key.endswith(code))
    for secret in (SECRET, PASSWORD):
        assert secret not in said
        assert secret.encode() not in kept + stored
    assert b"endpoint_override" not in stored
    assert look(driver, "delete", "faults", "--yes").returncode == 0
    assert bucket.objects("studies/faults") == []
    with create_engine(stores[1]).connect() as connection:
        for table in ("studies", "trials", "balance_tune_ledger", "balance_tune_leases"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table


def test_a_driver_whose_machine_is_lost_is_followed_on_another_and_nothing_is_lost_or_counted_twice(
    driver: Driver, stores: tuple[Bucket, str], undisturbed: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, database = stores
    moments, cache, kills = random.Random(0), driver.root / "cache", 0
    while kills < KILLS:
        with running(driver) as process:
            until(
                lambda p=process: bool(list(cache.glob("roots/*/run/faults/.tune"))) or p.poll() is not None,
                "the study to get going",
            )
            time.sleep(moments.uniform(0.0, 5.0))
            if process.poll() is not None:
                break
            process.kill()
            kills += 1
        assert driver.left_running() == []
        shutil.rmtree(cache)
        if kills == 1:
            assert driver.run() == 2  # the dead one counts as alive for a while
            assert "is being run by process" in driver.said()
            assert '"running": true' in look(driver, "status", "faults", "-f", "json").stdout
        outlived(database)
    assert kills >= KILLS // 2, f"the study was over after {kills} kills: make it longer"
    assert driver.run() == 0, driver.said()
    outcome(driver, bucket, undisturbed, monkeypatch)
    assert "state.pt" not in keys(bucket)


def outlived(database: str) -> None:
    """Let as much time pass as a driver that was killed is waited for."""
    with create_engine(database).begin() as connection:
        connection.execute(text(f"UPDATE balance_tune_leases SET beat = beat - {2 * EXPIRY}"))
