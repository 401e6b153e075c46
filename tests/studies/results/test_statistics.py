"""The statistics keep their promises: coverage, family-wise error, power, and sense at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from balance_tune.studies.results.statistics import (
    friedman,
    holm,
    mean_of,
    ranks,
    sd_of,
    t_p_value,
)


def _null_p_values(draws: int, methods: int, seeds: int, *, shared_baseline: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    differences = rng.normal(size=(draws, methods, seeds))
    if shared_baseline:
        differences -= rng.normal(size=(draws, 1, seeds))
    t = differences.mean(-1) / (differences.std(-1, ddof=1) / math.sqrt(seeds))
    return t_p_value(t, seeds - 1)


def test_holm_keeps_the_family_wise_error_at_5_percent_with_20_methods() -> None:
    p = _null_p_values(20_000, 20, 10, shared_baseline=False)
    assert np.mean((p <= 0.05).any(-1)) > 0.5  # uncorrected, most such studies would find something
    assert 0.04 <= np.mean((holm(p) <= 0.05).any(-1)) <= 0.06


def test_holm_never_exceeds_5_percent_when_all_methods_share_one_baseline() -> None:
    p = _null_p_values(20_000, 20, 10, shared_baseline=True)
    assert np.mean((holm(p) <= 0.05).any(-1)) <= 0.06


def test_holm_agrees_with_the_step_down_rule_written_out() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).tolist() == []


def test_the_best_has_rank_1_and_ties_share_the_mean_rank() -> None:
    assert ranks([[0.9, 0.8, 0.9, 0.1]]).tolist() == [[1.5, 3.0, 1.5, 4.0]]


def test_the_friedman_statistic_agrees_with_scipy() -> None:
    from scipy import stats

    scores = np.round(np.random.default_rng(0).random((8, 5)), 1)  # with ties
    test = friedman(scores)
    assert test.statistic == pytest.approx(stats.friedmanchisquare(*scores.T).statistic)


def test_the_friedman_test_keeps_its_level_with_few_datasets() -> None:
    rng = np.random.default_rng(0)
    p = [friedman(rng.random((6, 5))).p for _ in range(4000)]
    assert np.mean([v is not None and v <= 0.05 for v in p]) == pytest.approx(0.05, abs=0.015)


def test_the_same_order_on_all_datasets_is_beyond_chance() -> None:
    test = friedman(np.tile([0.9, 0.8, 0.7], (5, 1)))
    assert test.average_ranks.tolist() == [1.0, 2.0, 3.0]
    assert test.p == pytest.approx(6.0**-4)


def test_methods_that_always_tie_do_not_differ() -> None:
    assert friedman(np.ones((6, 4))).p == 1.0


@pytest.mark.parametrize("shape", [(4, 5), (5, 2)])
def test_too_few_datasets_or_methods_get_ranks_but_no_test(shape: tuple[int, int]) -> None:
    test = friedman(np.random.default_rng(0).random(shape))
    assert test.p is None
    assert test.average_ranks.sum() == pytest.approx(shape[1] * (shape[1] + 1) / 2)


def test_mean_and_deviation_of_too_little_are_none() -> None:
    assert (mean_of([]), sd_of([1.0])) == (None, None)
    assert mean_of([1.0, 3.0]) == 2.0
    assert sd_of([1.0, 3.0]) == pytest.approx(math.sqrt(2))
