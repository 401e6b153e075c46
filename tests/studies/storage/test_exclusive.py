"""One driver per study, by the file system's lock, by a row in the database, or by both."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from balance_tune.errors import UserError
from balance_tune.studies.engine import run_study
from balance_tune.studies.storage import exclusive as module
from balance_tune.studies.storage.database import URL
from balance_tune.studies.storage.database_lock import EXPIRY
from balance_tune.studies.storage.exclusive import exclusive, is_running
from balance_tune.studies.storage.study_folder import StudyFolder, root_folder
from balance_tune.studies.storage.trials import open_storage
from tests.studies.bucket import Bucket
from tests.studies.test_engine import STUDY

HOLD = """
import sys
from pathlib import Path
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.study_folder import StudyFolder
with exclusive(StudyFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the study in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database in which new studies begin."""
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    monkeypatch.setenv(URL, url)
    return url


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as Lustre mounted without flock, or NFS without its lock daemon."""

    def flock(*args: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.fixture
def remote(bucket: Bucket, postgres: str, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A driver's folder of a study in an object store that has not begun."""
    monkeypatch.setenv(URL, postgres)
    folder = root_folder(bucket.uri, driver=True) / "s"
    folder.path.mkdir(parents=True)
    return folder


def study(path: Path) -> StudyFolder:
    path.mkdir(exist_ok=True)
    return StudyFolder(path)


# by the file system ---------------------------------------------------------------------------------------------------
def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    folder = StudyFolder(tmp_path)
    with pytest.raises(UserError, match=f"process {held.pid} on"), exclusive(folder):
        pass
    assert is_running(folder)


def test_the_lock_of_a_killed_driver_is_taken_over(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    held.kill()
    held.communicate()
    folder = StudyFolder(tmp_path)
    assert not is_running(folder)  # whatever the file says
    with exclusive(folder):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_a_study_is_free_again_after_use(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert not is_running(folder)
    with exclusive(folder):
        assert is_running(folder)
    assert (tmp_path / "lock").read_text() == ""
    with exclusive(folder):
        pass
    with pytest.raises(ZeroDivisionError), exclusive(folder):
        raise ZeroDivisionError
    assert not is_running(folder)


def test_a_lock_that_this_user_may_not_write_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module.FileLock, "acquire", refuse)
    with pytest.raises(UserError, match=r"a study's lock must be writable, but .*lock: Permission denied"):
        exclusive(StudyFolder(tmp_path)).__enter__()


@pytest.mark.usefixtures("without_locks")
def test_where_the_file_system_has_no_locks_a_heartbeat_keeps_a_second_driver_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study(tmp_path / "s")
    with exclusive(folder):
        assert "cannot lock files: a heartbeat in lock.beat" in capsys.readouterr().err
        assert is_running(folder)
        with pytest.raises(UserError, match=f"is being run by process {os.getpid()} on"), exclusive(folder):
            pass
    assert not is_running(folder)
    assert not (folder.path / "lock.beat").exists()
    with exclusive(folder):
        pass


# by the database ------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("without_locks", "database")
def test_where_the_file_system_has_no_locks_the_database_keeps_a_second_driver_out(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    with exclusive(folder) as locks:
        with pytest.raises(UserError, match="is being run by process"), exclusive(folder):
            pass
        open_storage(folder)
        locks.extend()
        assert is_running(folder)
        with pytest.raises(UserError, match="is being run by process"), exclusive(folder):
            pass
    assert not is_running(folder)
    with exclusive(folder):
        assert is_running(folder)


def test_a_copy_of_the_folder_is_the_same_study_where_a_database_holds_the_trials(
    tmp_path: Path, database: str
) -> None:
    folder, other = study(tmp_path / "s"), study(tmp_path / "other")
    with exclusive(folder) as locks:
        open_storage(folder)
        locks.extend()
        locks.extend()  # again, which changes nothing
        other.write("optuna.database", (folder.path / "optuna.database").read_text())
        assert is_running(other)
        with pytest.raises(UserError, match="is being run by process"), exclusive(other):
            pass
    with exclusive(other):
        pass
    with create_engine(database).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM balance_tune_leases")).scalar() == 0


# in an object store ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({URL: ""}, f"must go with a PostgreSQL database for trials and lock, but {URL} is not set"),
        ({URL: "sqlite:////tmp/x.db"}, f"but {URL} is sqlite:////tmp/x.db"),
        ({URL: "postgresql://me:kept@127.0.0.1:1/x"}, "must answer, but postgresql://me:***@127.0.0.1:1/x does not"),
        ({"MLFLOW_TRACKING_URI": ""}, "must go with an MLflow server or database, but none was named"),
    ],
)
def test_a_root_in_a_store_without_what_it_needs_is_refused_before_anything_is_made(
    bucket: Bucket, postgres: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, value in {URL: postgres, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        run_study(STUDY, root=bucket.uri, progress="none")
    assert words in str(caught.value)
    assert "endpoint_override" not in str(caught.value)
    assert "kept" not in str(caught.value)
    assert bucket.objects() == []


def test_a_bucket_that_is_not_there_is_told_in_one_line(bucket: Bucket, postgres: str) -> None:
    with pytest.raises(UserError, match=r"s3://nowhere-at-all/studies cannot: .*NO_SUCH_BUCKET") as caught:
        run_study(STUDY, root=bucket.uri.replace(bucket.name, "nowhere-at-all"), progress="none")
    assert len(str(caught.value).splitlines()) == 1


def test_one_driver_holds_a_study_in_a_store_from_before_it_begins(remote: StudyFolder, tmp_path: Path) -> None:
    elsewhere = StudyFolder.at(tmp_path / "elsewhere", remote.location)
    elsewhere.path.mkdir()
    with exclusive(remote) as locks:
        with pytest.raises(UserError, match="is being run by process"), exclusive(elsewhere):
            pass
        open_storage(remote)
        locks.extend()
        assert is_running(elsewhere)
    assert not is_running(elsewhere)
    with exclusive(elsewhere):
        assert is_running(remote)


def test_a_driver_in_a_store_that_was_killed_is_followed_and_one_from_the_future_too(
    remote: StudyFolder, postgres: str, tmp_path: Path
) -> None:
    elsewhere = StudyFolder.at(tmp_path / "elsewhere", remote.location)
    elsewhere.path.mkdir()
    for seconds in (2 * EXPIRY, -2 * EXPIRY):
        with exclusive(remote):
            with create_engine(postgres).begin() as connection:
                connection.execute(text(f"UPDATE balance_tune_leases SET beat = beat - {seconds}"))
            assert not is_running(elsewhere)
            with exclusive(elsewhere):
                assert is_running(remote)
