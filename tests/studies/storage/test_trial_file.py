"""A trial's configuration in its own folder: whole or not there, the same for every machine, in the store too."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.storage import durable, trial_file
from balance_tune.studies.storage.study_folder import StudyFolder, root_folder
from tests.studies.bucket import Bucket

CONFIG = {"arm": "d/m", "training": {"lr": 0.1}, "folder": "/here/t", "store": "/here/data", "reported": 3}


def test_what_is_read_is_what_was_written_but_for_paths_of_this_machine(tmp_path: Path) -> None:
    trial_file.write(StudyFolder(tmp_path / "t"), CONFIG)
    assert trial_file.read(tmp_path / "t") == {"arm": "d/m", "training": {"lr": 0.1}}


@pytest.mark.parametrize("content", ["", '{"arm": "d', "[]"])
def test_what_a_power_cut_left_is_no_configuration_and_is_written_again(tmp_path: Path, content: str) -> None:
    (tmp_path / trial_file.FILE).write_text(content)
    assert trial_file.read(tmp_path) is None
    trial_file.write(StudyFolder(tmp_path), CONFIG)
    assert trial_file.read(tmp_path) == {"arm": "d/m", "training": {"lr": 0.1}}


def test_a_trial_that_goes_on_writes_nothing_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial_file.write(StudyFolder(tmp_path), CONFIG)
    writes: list[Path] = []
    monkeypatch.setattr(durable, "write", lambda path, content, **options: writes.append(path))
    trial_file.write(StudyFolder(tmp_path), {**CONFIG, "reported": 5})
    assert writes == []
    trial_file.write(StudyFolder(tmp_path), {**CONFIG, "gpus": 1})
    assert writes == [tmp_path / trial_file.FILE]


def test_it_is_in_the_object_store_too(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s" / "trials"
    trial_file.write(folder, CONFIG)
    assert bucket.json("s/trials/trial.json") == {"arm": "d/m", "training": {"lr": 0.1}}
