"""What a study in an object store needs beside it, and what its driver holds."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from balance_tune.errors import UserError
from balance_tune.studies.deletion import forget
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog, pruning_log_of
from balance_tune.studies.engine import run_study
from balance_tune.studies.storage import object_store
from balance_tune.studies.storage.claim import claimed, driven, fetch_study
from balance_tune.studies.storage.database import URL, lease_of
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.root import root_folder
from balance_tune.studies.storage.trials import open_storage
from tests.studies.bucket import Bucket
from tests.studies.postgres import PASSWORD
from tests.studies.test_engine import STUDY

GO = Decision(number=0, epoch=1, value=0.5, threshold=None, rank=1, of=1, stop=False)
STOP = Decision(number=1, epoch=1, value=0.25, threshold=0.5, rank=2, of=2, stop=True)


@pytest.fixture(autouse=True)
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def folder(bucket: Bucket, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's folder of a study that has not begun."""
    monkeypatch.setenv(URL, postgres)
    return root_folder(bucket.uri, driver=True) / "s"


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


def test_one_driver_holds_a_study_from_before_it_begins(folder: Path, bucket: Bucket) -> None:
    with claimed(folder):
        with pytest.raises(UserError, match="is being run by process"), claimed(folder):
            pass
        open_storage(folder)
        with lease_of(folder):
            assert driven(folder)
    assert not driven(folder)
    with claimed(folder):
        assert PASSWORD not in bucket.read(f"s/{DATABASE}").decode()


def test_the_ledger_is_whole_on_another_machine(folder: Path, bucket: Bucket) -> None:
    with claimed(folder):
        open_storage(folder)
        pruning_log = pruning_log_of(folder)
        pruning_log.append("d/m", GO)
        pruning_log.append("d/m", STOP)
        pruning_log.close()
    written = (folder / "ledger.jsonl").read_text()
    shutil.rmtree(folder)
    with claimed(folder):
        again = pruning_log_of(folder)
        assert again.of_arm("d/m") == (GO, STOP)
        assert again.stop_of("d/m", 1) == STOP
        again.append("d/m", dataclasses.replace(GO, number=2))
        again.close()
    assert (folder / "ledger.jsonl").read_text().startswith(written)
    look = root_folder(bucket.uri) / "s"
    bucket.write("s/study.yaml", b"name: s\n")
    fetch_study(look)
    assert (look / "ledger.jsonl").read_text() == (folder / "ledger.jsonl").read_text()
    assert "s/ledger.jsonl" not in bucket.objects()
    forget(folder)
    fetch_study(look)
    assert PruningLog(look / "ledger.jsonl").of_arm("d/m") == ()


def test_a_driver_that_was_followed_adds_no_decision(folder: Path) -> None:
    with claimed(folder):
        open_storage(folder)
        followed, follower = pruning_log_of(folder), pruning_log_of(folder)
        follower.append("d/m", GO)
        with pytest.raises(IntegrityError):
            followed.append("d/m", STOP)
        assert followed.stop_of("d/m", 1) is None
        assert pruning_log_of(folder).of_arm("d/m") == (GO,)


def test_what_waits_for_mlflow_goes_with_its_study(folder: Path, bucket: Bucket) -> None:
    def waiting() -> list[str]:
        return sorted(path.name for path in folder.glob("mlflow.queue*"))

    with claimed(folder):
        open_storage(folder)
    for name in ("mlflow.queue", "mlflow.queue.sent"):
        (folder / name).write_text("{}\n")
    with claimed(folder):
        assert waiting() == ["mlflow.queue", "mlflow.queue.sent"]
    object_store.clear(folder)  # and begun again, elsewhere
    bucket.write(f"s/{DATABASE}", b'{"database": "another", "names": "s-other"}')
    with claimed(folder):
        assert waiting() == []


def test_a_local_root_is_claimed_by_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError(args)

    monkeypatch.setattr("balance_tune.studies.storage.claim.database_for", never)
    with claimed(tmp_path), claimed(tmp_path):
        assert list(tmp_path.iterdir()) == []
