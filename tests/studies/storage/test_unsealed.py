"""The record of looks at sealed parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.unsealed import FILE, looks_below, record


def test_each_look_is_a_line_with_its_time(tmp_path: Path) -> None:
    root = StudyFolder(tmp_path)
    assert looks_below(root) == []
    record(root, {"model": "a", "accuracy": 0.5})
    record(root, {"model": "b", "accuracy": 0.6})
    first, second = (json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())
    assert (first["model"], second["model"], second["accuracy"]) == ("a", "b", 0.6)
    assert first["at"].endswith("+00:00")
    assert looks_below(root) == [first, second]


def test_a_look_that_cannot_be_recorded_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match="opening a sealed part must be recorded") as caught:
        record(StudyFolder(tmp_path), {"model": "a"})
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{damaged\n{}\n")
    with pytest.raises(UserError, match=r"unsealed\.jsonl must be a JSON object, but line 1 is damaged"):
        looks_below(StudyFolder(tmp_path))
