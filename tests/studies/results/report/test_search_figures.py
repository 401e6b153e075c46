"""What the figures of a search show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from balance_tune.studies.results.report import search_figures
from balance_tune.studies.results.report.charts import Style
from balance_tune.studies.results.report.sources import Sources, gather
from tests.studies.results.rows import row_of


@pytest.fixture(scope="module")
def sources(study: Path) -> Sources:
    return gather(study)


def test_each_trial_is_a_line_and_those_that_ended_early_have_a_mark(sources: Sources) -> None:
    row = row_of(list(sources.rows), "av_digits/mlb")
    picture = search_figures.search_curves(sources, row)
    assert len([mark for mark in picture.clipped if mark.title.startswith("trial ")]) == row.trials
    assert len([mark for mark in picture.marks if " stopped after epoch " in mark.title]) == row.pruned
    assert len([mark for mark in picture.marks if " failed: Diverged" in mark.title]) == row.failed > 0


def test_each_parameter_has_a_panel_with_every_trial_and_the_default(sources: Sources) -> None:
    row = row_of(list(sources.rows), "av_digits/relearning")
    panels = search_figures.slices(sources, row, Style())
    own = ["modulation.strength", "modulation.times", "modulation.score"]
    assert list(panels) == ["training.lr", "training.weight_decay", *own]
    for name, picture in panels.items():
        titles = [mark.title for mark in picture.marks]
        assert sum(title.startswith("trial ") for title in titles) == row.trials
        assert sum(title.startswith("the default, ") for title in titles) == 1
        assert f"chosen: {search_figures._value((row.params or {})[name])}" in titles


def test_progress_only_ever_improves_and_ends_at_the_best_trial(sources: Sources) -> None:
    rows = [row for row in sources.rows if row.dataset == "watch"]
    picture = search_figures.anytime(sources, rows, {row.method: Style() for row in rows})
    for row in rows:
        line = next(mark for mark in picture.clipped if mark.title == row.method).shapes[0]
        heights = [-y for _, y in line.points]  # type: ignore[union-attr]
        assert heights == sorted(heights)
        assert any(mark.title.startswith(f"{row.method}: ") for mark in picture.marks)


def test_trials_of_several_replicates_keep_their_own_values(sources: Sources) -> None:
    row = row_of(list(sources.rows), "av_digits/mlb")
    before = search_figures.slices(sources, row, Style())["training.lr"]
    again = [dataclasses.replace(r, replicate=1, state="pruned", value=None) for r in sources.arm(row)]
    both = dataclasses.replace(sources, records=[*sources.records, *again])
    after = search_figures.slices(both, dataclasses.replace(row, replicates=2), Style())["training.lr"]
    places = {mark.title.replace(" of replicate 1", ""): mark.target for mark in after.marks}
    complete = [mark for mark in before.marks if mark.title.endswith("(complete)")]
    assert len(complete) == row.complete
    assert all(places[mark.title] == mark.target for mark in complete)


def test_the_mean_progress_begins_where_all_have_begun_and_holds_the_last_values() -> None:
    curves = [[(1.0, 0.5), (3.0, 0.9)], [(2.0, 0.3), (4.0, 0.4), (6.0, 0.8)]]
    assert search_figures.mean_progress(curves) == [
        (2.0, pytest.approx(0.4)),
        (3.0, pytest.approx(0.6)),
        (4.0, pytest.approx(0.65)),
        (6.0, pytest.approx(0.85)),
    ]
