"""Which figures a study has as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.results.report.charts import Style
from balance_tune.studies.results.report.shapes import Picture
from balance_tune.studies.results.report.sheets import NARROW, PAGE, _pages, sheets
from balance_tune.studies.results.report.sources import gather
from tests.studies.made_study import WORLDS, Made, make_study


def test_every_figure_of_the_page_is_there(study: Path) -> None:
    figures = sheets(gather(study))
    of_dataset = {name.removesuffix("-watch") for name in figures if name.endswith("-watch")}
    assert of_dataset == {
        *("intervals", "learning_curves", "coefficients", "modality_gap", "score_and_gap", "score_and_cost"),
        *("search_progress", "search_trials"),
        *(f"sensitivity-{m}" for m in ("joint", "ogm_ge", "opm", "mlb", "relearning")),
    }
    assert {name for name in figures if "-" not in name} == {"interquartile_means", "performance_profiles"}
    assert [title for title, _ in figures["coefficients-watch"].panels] == [
        f"{title}: coefficient" for title, _ in figures["learning_curves-watch"].panels
    ]
    assert [name for name, _ in figures["learning_curves-watch"].legend] == ["fused", "accelerometer", "gyroscope"]


def test_five_datasets_have_a_critical_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"set_{k}" for k in range(5)]
    for name in names:
        monkeypatch.setitem(WORLDS, name, WORLDS["av_digits"])
    study = Made(
        datasets=names, methods=("joint", "opm", "ogm_ge"), trials=1, epochs=10, confirm_seeds=1, default_seeds=1
    )
    figures = sheets(gather(make_study(tmp_path, study)))
    assert "critical_difference" in figures
    assert "performance_profiles" not in figures  # one run of each arm


def test_an_unfinished_study_has_the_figures_of_its_search(tmp_path: Path) -> None:
    study = Made(
        datasets=["av_digits"], methods=["joint", "opm"], trials=2, epochs=10, finished=False, protocol="paper"
    )
    figures = sheets(gather(make_study(tmp_path, study)))
    assert "search_trials-av_digits-paper" in figures
    assert "intervals-av_digits-paper" not in figures


def test_many_panels_are_several_files() -> None:
    picture = Picture(NARROW, 100, "a panel")
    pages = _pages("coefficients", [(f"m{k}", picture) for k in range(PAGE + 1)], [("audio", Style())])
    assert {name: (len(page.panels), page.columns) for name, page in pages.items()} == {
        "coefficients": (PAGE, 3),
        "coefficients_2": (1, 3),
    }
    assert _pages("intervals", []) == {}
