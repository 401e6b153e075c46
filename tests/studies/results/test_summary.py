"""Interquartile means and performance profiles of a study over its datasets, against SciPy's own bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from balance_tune.studies.results.arm_results import ArmResults, CellResults
from balance_tune.studies.results.summary import summarise
from balance_tune.tasks import Objective


def arm(dataset: str, method: str, scores: list[float | None], metric: str = "accuracy") -> ArmResults:
    """Return an arm with one replicate for each score, of which None failed."""
    cells = [
        CellResults(
            [],
            tests={} if score is None else {0: {metric: score}},
            failed=frozenset([0] if score is None else []),
            seeds=[0],
            replicate=k,
        )
        for k, score in enumerate(scores)
    ]
    return ArmResults("sealed", dataset, method, cells, len(scores), metric=Objective(metric))


def test_means_and_intervals_are_scipys_on_scores_relative_to_joint() -> None:
    rng = np.random.default_rng(0)
    runs = {d: {m: list(0.8 + g + 0.02 * rng.normal(size=6)) for m, g in (("joint", 0), ("mlb", 0.03))} for d in "ab"}
    summary = summarise({d: [arm(d, m, list(s)) for m, s in own.items()] for d, own in runs.items()})
    assert summary is not None
    assert (summary.datasets, [m.method for m in summary.methods]) == (("a", "b"), ["mlb", "joint"])
    relative = [np.array(own["mlb"]) / np.mean(own["joint"]) - 1 for own in runs.values()]
    mlb = summary.methods[0]
    assert mlb.mean == pytest.approx(stats.trim_mean(np.concatenate(relative), 0.25))
    reference = stats.bootstrap(
        relative,
        lambda a, b, axis: stats.trim_mean(np.concatenate([a, b], axis=axis), 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert mlb.interval == pytest.approx((reference.low, reference.high), abs=0.002)


def test_a_failed_run_counts_as_the_worst_and_one_of_the_baseline_is_left_out() -> None:
    tables = {d: [arm(d, "joint", [0.8, 0.8, None]), arm(d, "mlb", [0.9, 0.9, None])] for d in "ab"}
    summary = summarise(tables)
    assert summary is not None
    by_method = {m.method: m for m in summary.methods}
    assert by_method["joint"].mean == pytest.approx(0.0)
    assert by_method["joint"].profile[0] == 1.0
    share_above = dict(zip(summary.thresholds.round(2), by_method["mlb"].profile, strict=True))
    between = [share for t, share in share_above.items() if 0 < t < 0.12]
    assert between == pytest.approx([2 / 3] * len(between))  # all but the failed run
    assert len(between) > 3


def test_a_failed_run_of_an_error_scores_the_worst_error_of_all_runs() -> None:
    tables = {
        d: [arm(d, "joint", [2.0, 2.0], "mae"), arm(d, "mlb", [1.0, None], "mae"), arm(d, "opm", [3.0, 2.0], "mae")]
        for d in "ab"
    }
    summary = summarise(tables)
    assert summary is not None
    assert {m.method: m.mean for m in summary.methods} == pytest.approx({"joint": 0.0, "mlb": 0.0, "opm": -0.25})


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"a": [("joint", [0.8, 0.9]), ("mlb", [0.8, 0.9])]},
        {"a": [("joint", [0.8, 0.9]), ("mlb", [0.8, 0.9])], "b": [("joint", [0.8, 0.9]), ("opm", [0.8, 0.9])]},
        {"a": [("joint", [0.8, 0.9]), ("mlb", [0.8, 0.9])], "b": [("joint", [0.8]), ("mlb", [0.8])]},
        {"a": [("joint", [0.8, 0.9]), ("mlb", [0.8, 0.9])], "b": [("joint", [None, None]), ("mlb", [None, None])]},
        {"a": [("joint", [0.8, 0.9]), ("mlb", [0.8, 0.9])], "b": [("joint", [0.0, 0.0]), ("mlb", [0.1, 0.2])]},
    ],
)
def test_where_there_is_too_little_nothing_is_summarised(
    tables: dict[str, list[tuple[str, list[float | None]]]],
) -> None:
    assert summarise({d: [arm(d, m, s) for m, s in own] for d, own in tables.items()}) is None
