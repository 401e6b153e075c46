"""One interval for replicates and test rows, failed and collapsed runs, and the probability of improvement."""

from __future__ import annotations

import numpy as np
import pytest

from balance_tune.studies.results.inference import (
    Runs,
    collapsed,
    compare,
    estimate,
    probability_of_improvement,
    pseudo_values,
)

NAN = float("nan")


def test_without_units_the_interval_is_the_paired_t_interval() -> None:
    from scipy import stats

    d = np.random.default_rng(0).normal(0.5, 1, 8)
    ours, theirs = estimate(d), stats.ttest_1samp(d, 0)
    interval = theirs.confidence_interval()
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.ci == pytest.approx((interval.low, interval.high))
    assert ours.freedom == 7


def test_variance_and_freedom_are_those_of_the_two_way_table() -> None:
    rng = np.random.default_rng(1)
    units = rng.normal(size=(6, 1)) + rng.normal(size=40) + rng.normal(size=(6, 40))
    r, u = units.shape
    grand, by_replicate, by_unit = units.mean(), units.mean(1), units.mean(0)
    ms_r = u * np.sum((by_replicate - grand) ** 2) / (r - 1)
    ms_u = r * np.sum((by_unit - grand) ** 2) / (u - 1)
    ms_e = np.sum((units - by_replicate[:, None] - by_unit + grand) ** 2) / ((r - 1) * (u - 1))
    total = ms_r + ms_u - ms_e
    freedom = total**2 / (ms_r**2 / (r - 1) + ms_u**2 / (u - 1) + ms_e**2 / ((r - 1) * (u - 1)))
    result = estimate(by_replicate, units)
    assert result.error == pytest.approx(np.sqrt(total / (r * u)))
    assert result.freedom == pytest.approx(freedom)
    assert result.row_share == pytest.approx((ms_u - ms_e) / total)


def test_rows_on_which_arms_do_not_differ_systematically_add_no_freedom_and_hardly_any_variance() -> None:
    units = np.random.default_rng(0).normal(size=(5, 4000))
    result, plain = estimate(units.mean(1), units), estimate(units.mean(1))
    assert result.error == pytest.approx(plain.error, rel=0.05)


def test_test_rows_never_take_away_the_freedom_that_replicates_give() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):  # rows that add about nothing: half of the time their variance is just above that of the rest
        units = rng.normal(size=(5, 300))
        units -= units.mean(axis=1, keepdims=True)
        result = estimate(0.001 * rng.normal(size=5), units)
        assert result.freedom is not None
        assert result.freedom >= 4


@pytest.mark.parametrize("replicates", [5, 6, 10])
def test_the_interval_covers_the_difference_on_the_population_of_rows_and_replicates(replicates: int) -> None:
    rng = np.random.default_rng(replicates)
    draws, inside, too_narrow = 2000, 0, 0
    for _ in range(draws):
        rows = rng.normal(0, 1.0, 300)
        shift = rng.normal(0, 0.05, replicates)
        units = 0.2 + shift[:, None] + rows + rng.normal(0, 1.0, (replicates, 300))
        both, seeds_only = estimate(units.mean(1), units).ci, estimate(units.mean(1)).ci
        assert both is not None
        assert seeds_only is not None
        inside += both[0] <= 0.2 <= both[1]
        too_narrow += not seeds_only[0] <= 0.2 <= seeds_only[1]
    assert 0.93 <= inside / draws <= 0.97
    assert too_narrow / draws > 0.10


def test_one_replicate_has_a_mean_but_no_interval() -> None:
    one = estimate([0.02], [[0.0, 0.04]])
    assert (one.n, one.mean, one.sd, one.ci, one.p) == (1, 0.02, None, None, None)
    assert estimate([]).mean is None


def test_equal_differences_are_judged_by_the_sign_flip_test() -> None:
    same = estimate([0.01] * 5)
    assert same.p == pytest.approx(2 / 2**5)
    assert same.ci == pytest.approx((0.01, 0.01))
    assert estimate([0.0] * 3).p == 1.0
    rows = np.tile(np.random.default_rng(0).normal(0.01, 0.001, 500), (5, 1))
    assert estimate(rows.mean(1), rows).p == pytest.approx(2 / 2**5), "more rows are no more replicates"


def test_pseudo_values_of_a_mean_are_its_units() -> None:
    x = np.random.default_rng(0).random(50)
    without = (x.sum() - x) / 49
    assert pseudo_values(float(x.mean()), without) == pytest.approx(x)


def test_pseudo_values_have_the_variance_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    errors, ratios = [], []
    for _ in range(300):
        a, b = rng.gamma(4, 1, 400), rng.gamma(9, 1, 400)
        without = (a.sum() - a) / (b.sum() - b)
        errors.append(pseudo_values(a.sum() / b.sum(), without).std(ddof=1) / 20)
        ratios.append(a.sum() / b.sum())
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_a_run_far_below_its_arm_is_collapsed_and_a_bad_seed_is_not() -> None:
    scores = np.array([[0.97, 0.972, 0.968, 0.971, 0.10], [0.95, 0.955, 0.951, 0.949, 0.940]])
    assert collapsed(scores).tolist() == [[False] * 4 + [True], [False] * 5]
    assert collapsed(-scores, lower=True).tolist() == collapsed(scores).tolist()
    assert not collapsed(-scores).any(), "better than the rest is no collapse"


def test_a_noisy_arm_has_no_collapses_only_because_others_are_quiet() -> None:
    quiet, noisy = 0.95 + 0.001 * np.arange(6), 0.9 + 0.03 * np.arange(6)
    assert not collapsed([quiet, quiet, quiet, noisy]).any()


def test_failed_runs_and_short_arms_and_equal_scores_have_no_collapse() -> None:
    assert not collapsed([[0.97, 0.97, NAN, 0.97, 0.97]]).any()
    assert not collapsed([[0.97, 0.97, 0.1]]).any()
    assert not collapsed([[0.97, 0.97, 0.97, 0.97, 0.96]]).any(), "no scale to judge by"
    assert collapsed([[0.97, 0.97, 0.97, 0.97, 0.5]], resolution=0.001).tolist() == [[False] * 4 + [True]]
    assert not collapsed([[NAN] * 5]).any()


def test_a_failed_run_scores_as_the_worst_against_its_own_arm_only() -> None:
    ours = Runs(np.array([0.97, 0.98, 0.975, NAN, 0.972]))
    theirs = Runs(np.array([0.95, 0.951, 0.949, 0.95, NAN]))
    result = compare(ours, theirs, worst=0.0)
    assert result.typical.n == 3
    assert result.typical.mean == pytest.approx(0.025, abs=0.001)
    assert result.against is not None
    assert result.against.n == 4
    assert result.against.mean == pytest.approx((0.02 + 0.029 + 0.026 - 0.95) / 4)
    assert result.in_favour is not None
    assert result.in_favour.mean == pytest.approx((0.02 + 0.029 + 0.026 + 0.972) / 4)


def test_without_a_worst_score_the_worst_finished_run_stands_for_a_failed_one() -> None:
    ours, theirs = Runs(np.array([0.3, NAN, 0.31])), Runs(np.array([0.5, 0.9, 0.6]))
    result = compare(ours, theirs, lower=True)
    assert result.against is not None
    assert result.against.mean == pytest.approx((-0.2 + 0.0 - 0.29) / 3)


def test_sound_runs_leave_nothing_to_hold_against_the_claim() -> None:
    result = compare(Runs(np.array([0.9, 0.91])), Runs(np.array([0.8, 0.82])))
    assert (result.against, result.in_favour) == (None, None)


def test_runs_and_their_units_must_fit() -> None:
    with pytest.raises(ValueError, match="units"):
        Runs(np.zeros(3), np.zeros((2, 10)))


def test_the_probability_of_improvement_counts_pairs_and_half_of_ties() -> None:
    found = probability_of_improvement([0.9, 0.8], [0.8, 0.7])
    assert found is not None
    assert found[0] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    lower = probability_of_improvement([0.9, 0.8], [0.8, 0.7], lower=True)
    assert lower is not None
    assert lower[0] == pytest.approx(1 - found[0])
    assert probability_of_improvement([], []) is None


def test_the_interval_of_the_probability_of_improvement_holds_it() -> None:
    rng = np.random.default_rng(0)
    found = probability_of_improvement(rng.normal(0.5, 1, 20), rng.normal(0, 1, 20))
    assert found is not None
    value, (low, high) = found
    assert 0 <= low < value < high <= 1
    assert probability_of_improvement([1.0] * 4, [0.0] * 4) == (1.0, (1.0, 1.0))
