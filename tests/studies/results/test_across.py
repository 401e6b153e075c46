"""Across datasets: one number a family, Nemenyi's test, interquartile means and performance profiles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from balance_tune.studies.results.across import (
    against_baseline,
    by_family,
    compare_ranks,
    critical_difference,
    interquartile_interval,
    interquartile_mean,
    performance_profile,
    profile_band,
)


def test_recipes_of_one_dataset_are_one_number() -> None:
    scores = [[0.9, 0.8], [0.7, 0.8], [0.5, 0.4]]
    assert by_family(scores, ["a", "a", "b"]) == pytest.approx(np.array([[0.8, 0.8], [0.5, 0.4]]))


def test_three_recipes_of_one_dataset_and_two_of_another_have_no_test() -> None:
    """Five tables that rank alike because they share data: p < 0.001 when counted as independent."""
    scores = np.tile([0.9, 0.8, 0.7], (5, 1))
    assert compare_ranks(scores, "xyz", ["a", "a", "a", "b", "b"]).p is None
    assert compare_ranks(scores, "xyz", "abcde").p == pytest.approx(6.0**-4)


def test_the_test_over_families_keeps_its_level_where_recipes_share_data() -> None:
    rng = np.random.default_rng(0)
    families = [name for name in "abcde" for _ in range(3)]
    by_recipe = by_dataset = 0
    for _ in range(1000):
        scores = np.repeat(rng.normal(size=(5, 5)), 3, axis=0) + 0.3 * rng.normal(size=(15, 5))
        p, naive = (compare_ranks(scores, "vwxyz", of).p for of in (families, list(map(str, range(15)))))
        assert p is not None
        assert naive is not None
        by_dataset += p < 0.05
        by_recipe += naive < 0.05
    assert 0.03 <= by_dataset / 1000 <= 0.07
    assert by_recipe / 1000 > 0.2


def test_the_critical_difference_is_that_of_the_published_table() -> None:
    """Demšar (2006), table 5: q of 2 methods 1.960, of 4 2.569, of 10 3.164; N = 14 and k = 4 give 1.25."""
    assert critical_difference(2, 1) == pytest.approx(1.960 * np.sqrt(2 * 3 / 6), abs=2e-3)
    assert critical_difference(10, 6) == pytest.approx(3.164 * np.sqrt(10 * 11 / 36), abs=5e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)


def test_groups_join_methods_that_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([0.9, 0.89, 0.5, 0.49]) + 0.05 * rng.normal(size=(12, 4))
    ranks = compare_ranks(scores, ["a", "b", "c", "d"], [str(i) for i in range(12)])
    assert ranks.p is not None
    assert ranks.p < 0.05
    assert set(ranks.methods[:2]) == {"a", "b"}
    assert (0, 1) in ranks.groups
    assert (2, 3) in ranks.groups
    assert not any(first <= 0 and last >= 3 for first, last in ranks.groups)


def test_without_a_significant_friedman_test_all_methods_are_one_group() -> None:
    ranks = compare_ranks(np.random.default_rng(3).normal(size=(6, 3)), "abc", "uvwxyz")
    assert ranks.p is not None
    assert ranks.p > 0.05
    assert ranks.groups == ((0, 2),)


def test_with_few_families_there_is_no_critical_difference() -> None:
    ranks = compare_ranks(np.random.default_rng(3).normal(size=(6, 3)), "abc", "uvwxxx")
    assert (ranks.p, ranks.critical, ranks.groups) == (None, None, ())


def test_the_interquartile_mean_is_scipys_trimmed_mean() -> None:
    runs = [np.random.default_rng(k).random(n) for k, n in enumerate((5, 7, 3))]
    assert interquartile_mean(runs) == pytest.approx(stats.trim_mean(np.concatenate(runs), 0.25))
    low, high = interquartile_interval(runs)
    assert low < interquartile_mean(runs) < high


def test_one_collapsed_run_does_not_move_the_interquartile_mean_far() -> None:
    runs = np.full(8, 0.9)
    assert interquartile_mean([np.append(runs[:-1], 0.0)]) == pytest.approx(0.9)


def test_the_profile_is_the_share_of_runs_strictly_above() -> None:
    profile = performance_profile([[0.1, 0.2], [0.2, 0.4]], [0.0, 0.1, 0.2, 0.4])
    assert profile.tolist() == [1.0, 0.75, 0.25, 0.0]


def test_the_band_of_a_profile_has_the_quantiles_of_the_bootstrap() -> None:
    """The number of 20 resampled runs above 0.5 is binomial(20, 0.4), of two datasets the mean of two such shares."""
    runs = [np.arange(20) < 8] * 2
    low, high = profile_band(runs, [0.5, 1.5], draws=20_000)
    both = stats.binom(40, 0.4)
    assert (low[0], high[0]) == pytest.approx((both.ppf(0.025) / 40, both.ppf(0.975) / 40))
    assert (low[1], high[1]) == (0.0, 0.0)


def test_scores_of_datasets_are_comparable_relative_to_the_baseline() -> None:
    runs = {
        "acc": {"joint": [0.8, 0.8], "m": [0.88, 0.8], "only_here": [1.0, 1.0]},
        "mae": {"joint": [0.5, 0.5], "m": [0.4, 0.5]},
    }
    scaled = against_baseline(runs, "joint", lower=["mae"])
    assert list(scaled) == ["joint", "m"]
    assert scaled["m"][0] == pytest.approx([0.1, 0.0])
    assert scaled["m"][1] == pytest.approx([0.2, 0.0])
    assert scaled["joint"][0] == pytest.approx([0.0, 0.0])
