"""The record of looks at sealed parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage.unsealed import FILE, record


def test_each_look_is_a_line_with_time_and_code(tmp_path: Path) -> None:
    record(tmp_path, {"model": "a", "accuracy": 0.5})
    record(tmp_path, {"model": "b", "accuracy": 0.6})
    first, second = (json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())
    assert (first["model"], second["model"], second["accuracy"]) == ("a", "b", 0.6)
    assert first["at"].endswith("+00:00")
    assert first["code_version"] == second["code_version"]


def test_a_look_that_cannot_be_recorded_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match="opening a sealed part must be recorded") as caught:
        record(tmp_path, {"model": "a"})
    assert "\n" not in str(caught.value)
