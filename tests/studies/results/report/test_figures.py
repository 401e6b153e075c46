"""What the figures of a report show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.report.figures import pareto
from balance_tune.tasks import Objective
from tests.studies.made_study import Made, make_study


def test_many_methods_still_make_a_page(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"]))
    rows = leaderboard.build(folder)
    from balance_tune.studies.results.report.figures import styles

    looks = styles([dataclasses.replace(rows[0], method=f"m{i}") for i in range(24)] + rows)
    pairs = [(look.colour, look.dash) for look in looks.values()]
    assert len(set(pairs[:24])) == 24  # six colours in four dashes
    assert (looks["joint"].colour, looks["joint"].dash) not in pairs[1:24]


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    places = [(1, 0.8), (2, 0.7), (3, 0.9), (3, 0.85), (0.5, 0.1)]
    assert pareto(places, Objective("val/accuracy")) == [(0.5, 0.1), (1, 0.8), (3, 0.9)]
    assert pareto(places, Objective("val/loss")) == [(0.5, 0.1)]
