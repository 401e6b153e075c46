"""The pruning log of a study in an object store, which takes no appends."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from balance_tune.errors import UserError
from balance_tune.studies.deletion import forget
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog, pruning_log_of
from balance_tune.studies.storage.database import URL
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.pruning_table import download_study
from balance_tune.studies.storage.study_folder import StudyFolder, root_folder
from balance_tune.studies.storage.trials import open_storage
from tests.studies.bucket import Bucket
from tests.studies.postgres import PASSWORD

GO = Decision(number=0, epoch=1, value=0.5, threshold=None, rank=1, of=1, stop=False)
STOP = Decision(number=1, epoch=1, value=0.25, threshold=0.5, rank=2, of=2, stop=True)


@pytest.fixture
def folder(bucket: Bucket, postgres: str, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A driver's folder of a study that has begun."""
    monkeypatch.setenv(URL, postgres)
    study = root_folder(bucket.uri, driver=True) / "s"
    open_storage(study)
    return study


def test_the_log_is_whole_on_another_machine(folder: StudyFolder, bucket: Bucket) -> None:
    log = pruning_log_of(folder)
    log.append("d/m", GO)
    log.append("d/m", STOP)
    log.close()
    written = (folder.path / "ledger.jsonl").read_text()
    shutil.rmtree(folder.path)
    folder.download()
    again = pruning_log_of(folder)
    assert again.of_arm("d/m") == (GO, STOP)
    assert again.stop_of("d/m", 1) == STOP
    again.append("d/m", dataclasses.replace(GO, number=2))
    again.close()
    assert (folder.path / "ledger.jsonl").read_text().startswith(written)
    reader = root_folder(bucket.uri) / "s"
    download_study(reader)
    assert (reader.path / "ledger.jsonl").read_text() == (folder.path / "ledger.jsonl").read_text()
    assert "s/ledger.jsonl" not in bucket.objects()
    assert PASSWORD not in bucket.read(f"s/{DATABASE}").decode()
    forget(folder)
    download_study(reader)
    assert PruningLog(reader.path / "ledger.jsonl").of_arm("d/m") == ()


def test_a_driver_that_was_followed_adds_no_decision(folder: StudyFolder) -> None:
    followed, follower = pruning_log_of(folder), pruning_log_of(folder)
    follower.append("d/m", GO)
    with pytest.raises(IntegrityError):
        followed.append("d/m", STOP)
    assert followed.stop_of("d/m", 1) is None
    assert pruning_log_of(folder).of_arm("d/m") == (GO,)


def test_a_study_whose_store_does_not_answer_is_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        def get_file_info(self, selector: Any) -> None:
            raise OSError("connection refused")

    folder = root_folder(bucket.uri) / "s"
    monkeypatch.setattr(folder.store, "_system", Down())
    with pytest.raises(UserError, match=r"must be readable, but s3://.*/studies does not answer .* connection refused"):
        download_study(folder)
