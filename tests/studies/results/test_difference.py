"""The difference of two arms: over common runs alone, collapsed ones left out, failed ones the worst."""

from __future__ import annotations

import pytest

from balance_tune.studies.results.arm_results import ArmResults, CellResults
from balance_tune.studies.results.difference import collapsed_runs, difference

REPLICATES = 6


def arm(method: str, *scores: float | None) -> ArmResults:
    """Return an arm with a score a replicate; None is a replicate that came to nothing."""
    cells = [
        CellResults(
            [], tests={} if score is None else {0: {"accuracy": score, "n": 1000}}, seeds=[0], replicate=k,
            failure="its search failed" if score is None else None,
        )
        for k, score in enumerate(scores)
    ]  # fmt: skip
    return ArmResults("sealed", "toy", method, cells, REPLICATES)


def test_it_is_over_the_runs_that_both_have() -> None:
    ours, theirs = arm("mlb", 0.9, 0.92, 0.91, 0.93), arm("joint", 0.8, 0.81, 0.82)
    result = difference(ours, theirs, collapsed_runs([ours, theirs]), 0.95)
    assert result.comparison.typical.n == 3
    assert result.comparison.typical.mean == pytest.approx(0.1)
    assert result.chance is not None
    assert result.chance[0] == 1.0


def test_a_failed_replicate_is_no_pair_and_the_worst_run() -> None:
    ours, theirs = arm("mlb", 0.9, 0.92, None, 0.93), arm("joint", 0.8, 0.81, 0.82, 0.8)
    result = difference(ours, theirs, collapsed_runs([ours, theirs]), 0.95)
    assert result.comparison.typical.n == 3
    assert result.comparison.against is not None
    assert (result.comparison.against.mean or 0.0) < (result.comparison.typical.mean or 0.0)
    assert result.chance is not None
    assert result.chance[0] == pytest.approx(0.75)


def test_a_collapsed_replicate_is_marked_and_left_out() -> None:
    ours = arm("mlb", 0.9, 0.92, 0.91, 0.93, 0.91, 0.2)
    theirs = arm("joint", 0.8, 0.81, 0.82, 0.8, 0.81, 0.82)
    bad = collapsed_runs([ours, theirs])
    assert bad["mlb"].tolist() == [False] * 5 + [True]
    assert not bad["joint"].any()
    assert difference(ours, theirs, bad, 0.95).comparison.typical.n == 5
