"""What a report is made from, read from a study folder of which some files may be gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.results.report import write
from tests.studies.made_study import Made, make_study
from tests.studies.results.report.page import Page


def test_a_study_whose_histories_and_stores_are_gone_is_drawn_from_its_storage(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["watch"], methods=["joint", "opm"]))
    for place in (folder / "trials", tmp_path / "data"):
        shutil.rmtree(place)
    for name in ("ledger.jsonl", "study.json"):
        (folder / name).unlink()
    text = write(folder).read_text()
    assert Page(text).open == []
    assert "<h3>Rungs</h3>" not in text


def test_a_folder_without_a_study_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study must exist to be read"):
        write(tmp_path)
