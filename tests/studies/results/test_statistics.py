"""The statistics keep their promises: coverage, family-wise error, power, and sense at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from balance_tune.studies.results.statistics import (
    bootstrap_mean,
    friedman,
    holm,
    mean_of,
    paired_t,
    ranks,
    sd_of,
    smallest_detectable,
    t_p_value,
)


@pytest.mark.parametrize("seeds", [5, 6, 10])
def test_the_95_percent_interval_covers_the_true_difference_in_95_percent_of_draws(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    truth = 0.97 - 0.95
    hits = 0
    for _ in range(2000):
        shared = rng.normal(0, 0.01, seeds)  # a seed that is easy for one arm is easy for the other
        joint = 0.95 + shared + rng.normal(0, 0.006, seeds)
        method = 0.97 + shared + rng.normal(0, 0.009, seeds)
        ci = paired_t(method - joint).ci
        assert ci is not None
        hits += ci[0] <= truth <= ci[1]
    assert 0.93 <= hits / 2000 <= 0.97


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


def test_the_paired_t_test_agrees_with_scipy() -> None:
    from scipy import stats

    differences = np.random.default_rng(0).normal(0.5, 1, 8)
    ours, theirs = paired_t(differences), stats.ttest_1samp(differences, 0)
    interval = theirs.confidence_interval()
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.ci == pytest.approx((interval.low, interval.high))


def test_one_seed_has_a_mean_but_no_interval_and_no_p_value() -> None:
    one = paired_t([0.02])
    assert (one.n, one.mean, one.sd, one.ci, one.p) == (1, 0.02, None, None, None)


def test_no_seed_has_nothing() -> None:
    none = paired_t([])
    assert (none.n, none.mean, none.ci, none.p) == (0, None, None, None)


def test_equal_scores_on_every_seed_are_no_evidence() -> None:
    same = paired_t([0.0, 0.0, 0.0])
    assert (same.mean, same.sd, same.ci, same.p) == (0.0, 0.0, (0.0, 0.0), 1.0)


def test_the_same_difference_on_every_seed_is_judged_by_the_sign_flip_test() -> None:
    same = paired_t([0.01] * 5)
    assert same.p == pytest.approx(2 / 2**5)
    assert same.ci == pytest.approx((0.01, 0.01))


def test_the_smallest_detectable_difference_is_found_with_80_percent_power() -> None:
    size = smallest_detectable(sd=0.01, n=10)
    assert size is not None
    draws = np.random.default_rng(0).normal(size, 0.01, (20_000, 10))
    t = draws.mean(-1) / (draws.std(-1, ddof=1) / math.sqrt(10))
    assert np.mean(t_p_value(t, 9) <= 0.05) == pytest.approx(0.8, abs=0.01)


def test_more_seeds_see_smaller_differences_and_a_stricter_level_larger_ones() -> None:
    few, many = smallest_detectable(0.01, 5), smallest_detectable(0.01, 10)
    strict = smallest_detectable(0.01, 10, alpha=0.05 / 20)
    assert few is not None
    assert many is not None
    assert strict is not None
    assert many < strict
    assert many < few


@pytest.mark.parametrize(("sd", "n"), [(0.01, 1), (0.0, 10)])
def test_one_seed_or_no_variance_says_nothing_about_what_could_be_seen(sd: float, n: int) -> None:
    assert smallest_detectable(sd, n) is None


def test_the_bootstrap_of_independent_rows_matches_the_binomial_interval() -> None:
    correct = np.arange(1500) < 1425
    interval = bootstrap_mean(correct)
    assert interval is not None
    half = 1.96 * math.sqrt(0.95 * 0.05 / 1500)
    assert interval == pytest.approx((0.95 - half, 0.95 + half), abs=0.0015)


def test_the_bootstrap_of_people_is_wider_than_that_of_their_windows() -> None:
    people = np.repeat(np.arange(20), 50)
    skill = np.random.default_rng(0).uniform(0.4, 0.9, 20)
    correct = np.random.default_rng(1).random(1000) < skill[people]
    rows, clusters = bootstrap_mean(correct), bootstrap_mean(correct, people)
    assert rows is not None
    assert clusters is not None
    assert clusters[1] - clusters[0] > 2 * (rows[1] - rows[0])


def test_the_clustered_bootstrap_covers_the_mean_of_the_population_of_people() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        people = np.repeat(np.arange(40), 10)
        correct = rng.random(400) < rng.beta(6, 3, 40)[people]
        interval = bootstrap_mean(correct, people, draws=500)
        assert interval is not None
        hits += interval[0] <= 6 / 9 <= interval[1]
    assert 0.90 <= hits / 400 <= 0.98


def test_a_group_counts_by_its_size_in_every_resampled_test_set() -> None:
    """With few groups all resamples can be counted out: the interval is that of their means over rows."""
    sizes, hits = np.array([1, 2, 5, 12]), np.array([1, 0, 4, 3])
    groups = np.repeat(np.arange(4), sizes)
    correct = np.concatenate([np.arange(size) < hit for size, hit in zip(sizes, hits, strict=True)])
    draws = np.array(list(itertools.product(range(4), repeat=4)))
    means = hits[draws].sum(1) / sizes[draws].sum(1)
    interval = bootstrap_mean(correct, groups, draws=20_000, level=0.8)
    assert interval == pytest.approx(np.quantile(means, [0.1, 0.9]), abs=0.02)


def test_where_every_row_is_right_groups_of_any_size_say_so() -> None:
    assert bootstrap_mean(np.ones(10), [0] * 9 + [1]) == (1.0, 1.0)


def test_the_bootstrap_needs_two_rows_and_two_groups() -> None:
    assert bootstrap_mean([1.0]) is None
    assert bootstrap_mean([]) is None
    assert bootstrap_mean([1.0, 0.0], [7, 7]) is None


def test_the_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(0).random(300)
    assert bootstrap_mean(values) == bootstrap_mean(values)


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
