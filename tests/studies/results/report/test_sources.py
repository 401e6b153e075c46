"""What a report is made from, read from a study folder of which some files may be gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.results.report import write
from balance_tune.studies.results.report.sources import gather
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


def test_of_many_search_trials_the_default_and_the_best_are_drawn_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_study(tmp_path, Made(datasets=["watch"], methods=["joint", "opm"]))
    whole = gather(folder)
    assert "<h3>Every search trial</h3>" in write(folder).read_text()
    monkeypatch.setattr("balance_tune.studies.results.report.sources.TRIALS_DRAWN", 0)
    monkeypatch.setattr("balance_tune.studies.results.report.sources.FEWEST_DRAWN", 3)
    for row in whole.rows:
        every = [r for r in whole.arm(row) if r.phase == "search"]
        assert len(every) > 3
        trials = whole.search_trials(row)
        assert len(trials) == 3
        assert any(r.attrs.get("default") for r in trials)
        best = max(r.value or 0.0 for r in every if r.state == "complete")
        assert best in [r.value for r in trials]
    assert "more than 3 search trials the default and the best 2 others are drawn" in write(folder).read_text()


def test_a_folder_without_a_study_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study must exist to be read"):
        write(tmp_path)
