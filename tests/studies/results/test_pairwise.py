"""Any two arms of a dataset compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.pairwise import compare_arms
from tests.studies.results.rows import row_of


def test_against_the_baseline_it_is_the_row_of_the_leaderboard(study: Path, rows: list[LeaderboardRow]) -> None:
    pair, row = compare_arms(study, "av_digits/mlb", "av_digits/joint"), row_of(rows, "av_digits/mlb")
    assert (pair.delta, pair.ci, pair.p, pair.n) == (row.delta, row.delta_ci, row.p_value, row.n)
    assert pair.p_improvement == row.p_improvement


def test_the_other_way_round_it_is_the_negative(study: Path) -> None:
    one = compare_arms(study, "av_digits/mlb", "av_digits/opm")
    other = compare_arms(study, "av_digits/opm", "av_digits/mlb")
    assert one.delta is not None
    assert one.ci is not None
    assert one.delta == -(other.delta or 0.0)
    assert one.ci == (-other.ci[1], -other.ci[0]) if other.ci else False
    assert one.p == other.p
    assert "av_digits/mlb - av_digits/opm:" in str(one)
    assert "seeds" in str(one)


def test_arms_that_cannot_be_compared_are_one_line(study: Path) -> None:
    with pytest.raises(UserError, match="Did you mean `av_digits/mlb`"):
        compare_arms(study, "av_digits/mbl", "av_digits/joint")
    with pytest.raises(UserError, match="two arms of one dataset"):
        compare_arms(study, "av_digits/mlb", "multiple_features/mlb")
    with pytest.raises(UserError, match="two arms of one dataset"):
        compare_arms(study, "av_digits/mlb", "av_digits/mlb")
