"""What the figures of a report show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from balance_tune.studies.protocol.keys import MATCHED
from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.report.charts import Style, number
from balance_tune.studies.results.report.figures import coefficients, gap_over_epochs, pareto, styles
from balance_tune.studies.results.report.sources import gather
from balance_tune.tasks import Objective
from tests.studies.made_study import Made, make_study
from tests.studies.results.rows import row_of


def test_many_methods_still_make_a_page(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"]))
    rows = leaderboard.build(folder)
    looks = styles([dataclasses.replace(rows[0], method=f"m{i}") for i in range(24)] + rows)
    pairs = [(look.colour, look.dash) for look in looks.values()]
    assert len(set(pairs[:24])) == 24  # six colours in four dashes
    assert (looks["joint"].colour, looks["joint"].dash) not in pairs[1:24]


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    places = [(1, 0.8), (2, 0.7), (3, 0.9), (3, 0.85), (0.5, 0.1)]
    assert pareto(places, Objective("val/accuracy")) == [(0.5, 0.1), (1, 0.8), (3, 0.9)]
    assert pareto(places, Objective("val/loss")) == [(0.5, 0.1)]


def test_coefficients_are_means_over_the_runs_with_a_band(study: Path) -> None:
    sources = gather(study)
    row = row_of(list(sources.rows), "watch/mlb")
    (picture,) = coefficients(sources, row, ["accelerometer", "gyroscope"]).values()
    lines = [mark for mark in picture.clipped if mark.title]
    assert [mark.title for mark in lines] == ["accelerometer", "gyroscope"]
    assert len(picture.clipped) == 4  # each with a band
    runs = [sources.history(r) for r in sources.shown(row)]
    last = sum(run[-1]["modulation/coefficient/gyroscope"] for run in runs) / len(runs)
    assert any(mark.title == f"coefficient of gyroscope, epoch 20: {number(last)}" for mark in picture.marks)


def test_the_gap_is_shown_as_long_as_methods_train_not_as_long_as_the_matched_baseline(study: Path) -> None:
    sources = gather(study)
    row = row_of(list(sources.rows), "watch/mlb")
    matched = dataclasses.replace(row_of(list(sources.rows), "watch/joint"), method=MATCHED)
    history = sources.history
    long = [{"epoch": e, "val/gap": 0.1} for e in range(1, 101)]
    sources.history = lambda r: long if r.method == "joint" else history(r)  # type: ignore[method-assign]
    looks = {"mlb": Style(), MATCHED: Style()}
    last = {"mlb": 20.0, MATCHED: 20.0}
    for mark in gap_over_epochs(sources, [row, matched], looks).marks:
        if mark.title:
            method, _, epoch = mark.title.partition(", epoch ")
            assert float(epoch.split(":")[0]) <= last[method]
