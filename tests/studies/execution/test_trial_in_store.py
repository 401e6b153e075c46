"""The work of one trial whose folder is in an object store: what it puts there, and what it goes on from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from balance_tune.datasets.store import build_store
from balance_tune.replicas import Replicas
from balance_tune.studies.execution import trial
from balance_tune.studies.execution.sealed import Sealed, _places, _task
from balance_tune.studies.execution.trial import work
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.training.checkpoint import STATE, load_best
from tests.datasets.tiny import Tiny
from tests.studies.bucket import Bucket
from tests.studies.execution.test_trial import EPOCHS, Reports, config_of, timeless


@pytest.fixture(autouse=True)
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    build_store(Tiny(), tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def whole(tmp_path: Path, store: Path) -> list[dict[str, Any]]:
    """The reports of the trial in a folder."""
    reports = Reports()
    work(config_of(tmp_path / "whole", store), reports)
    return reports


def there(bucket: Bucket, store: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return config_of(tmp_path / "nowhere", store, location=(bucket.uri, "s/t"), **changes)


def rows(bucket: Bucket) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bucket.read("s/t/history.jsonl").splitlines()]


def test_a_trial_leaves_in_the_store_what_it_leaves_in_a_folder_and_nothing_on_its_node(
    bucket: Bucket, store: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    reports = Reports()
    work(there(bucket, store, tmp_path), reports)
    assert timeless(reports) == timeless(whole)
    assert bucket.objects("studies/s/t") == ["best.json", "best.safetensors", "history.jsonl", STATE]
    assert len(rows(bucket)) == EPOCHS
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "cache" / "trials").iterdir()) == []
    found, expected = tmp_path / "found", tmp_path / "whole"
    StudyFolder.at(found, (bucket.uri, "s/t")).download(lambda name: name != STATE)
    assert {k: v.tolist() for k, v in load_best(found).state_dict().items()} == {
        k: v.tolist() for k, v in load_best(expected).state_dict().items()
    }


def test_a_trial_goes_on_from_the_store_on_another_node(
    bucket: Bucket, store: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    with pytest.raises(SystemExit):
        work(there(bucket, store, tmp_path), Reports(stop_after=2))
    shutil.rmtree(tmp_path / "cache")
    rest = Reports()
    work(there(bucket, store, tmp_path, reported=2), rest)
    assert [row["epoch"] for row in rest] == [3, 4]
    assert timeless(rest) == timeless(whole[2:])
    assert [row["epoch"] for row in rows(bucket)] == [1, 2, 3, 4]


def test_a_trial_that_is_stopped_between_two_states_leaves_its_whole_history(
    bucket: Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "1e9")
    with pytest.raises(SystemExit):
        work(there(bucket, store, tmp_path), Reports(stop_after=3))
    assert bucket.objects("studies/s/t") == ["history.jsonl"]
    assert [row["epoch"] for row in rows(bucket)] == [1, 2, 3]


def test_a_state_without_the_history_that_led_to_it_is_not_gone_on_from(
    bucket: Bucket, store: Path, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    with pytest.raises(SystemExit):
        work(there(bucket, store, tmp_path), Reports(stop_after=3))
    first = bucket.read("s/t/history.jsonl").splitlines(keepends=True)[0]
    bucket.write("s/t/history.jsonl", first)  # by an attempt on a node that was cut off for a while
    again = Reports()
    work(there(bucket, store, tmp_path, reported=3), again)
    assert timeless(again) == timeless(whole)
    assert [row["epoch"] for row in rows(bucket)] == [1, 2, 3, 4]


def test_a_store_that_takes_nothing_halts_the_study_and_is_no_fault_of_the_trial(
    bucket: Bucket, store: Path, tmp_path: Path
) -> None:
    reports = Reports()
    elsewhere = bucket.uri.replace(bucket.name, "no-such-bucket")
    work({**there(bucket, store, tmp_path), "location": (elsewhere, "s/t")}, reports)
    assert [row["state"] for row in reports] == ["halt"]
    assert reports[-1]["reason"].startswith("s3://no-such-bucket/studies does not answer as it must: ")


def test_a_checkpoint_meets_the_test_rows_where_it_lies(bucket: Bucket, store: Path, tmp_path: Path) -> None:
    folder = StudyFolder.at(tmp_path / "study" / "t", (bucket.uri, "s/t"))
    work(there(bucket, store, tmp_path), Reports())
    found = _task(_places(Sealed(TrialKey("tiny/joint", "confirm", 0), folder, str(store))), store, "cpu")
    assert bucket.json("s/t/test.json") == found
    assert _task({"folder": "", "location": (bucket.uri, "s/t")}, store, "cpu") == found


def test_workers_that_found_a_device_full_find_the_note_of_it_on_any_node(
    bucket: Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[Any] = []

    def crowded(config: Any, *rest: Any) -> Iterator[dict[str, Any]]:
        pieces.append(config.get("micro_batch"))
        if pieces == [None]:
            raise torch.OutOfMemoryError("the device is full")
        yield {"epoch": 1, "state": "complete"}

    monkeypatch.setattr(trial, "_epochs", crowded)
    two = Replicas()
    two.world = 2
    config = there(bucket, store, tmp_path, workers=2)
    with pytest.raises(torch.OutOfMemoryError):
        work(config, Reports(), replicas=two)
    work(config, Reports(), replicas=two)
    assert pieces == [None, 1]
