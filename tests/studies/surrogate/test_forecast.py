"""What a pruned trial would have ended with."""

from __future__ import annotations

import numpy as np
import pytest

from balance_tune.studies.surrogate.forecast import (
    PRIOR_TRIALS,
    REMAINING,
    SPREAD,
    Course,
    Forecast,
    forecasts,
    standardised,
)


def course(state: str, *curve: float) -> Course:
    return Course({"lr": 0.1}, state, curve)


def test_a_complete_trial_counts_with_its_best_epoch() -> None:
    assert forecasts([course("complete", 0.5, 0.9, 0.8)]) == [Forecast({"lr": 0.1}, 0.9)]


def test_a_pruned_trial_keeps_the_share_of_its_gap_that_complete_trials_kept() -> None:
    complete = [course("complete", 0.5, 0.6, 0.9), course("complete", 0.4, 0.6, 0.7)]  # gaps 0.3, 0.3, then 0, 0.2
    *_, pruned = forecasts([*complete, course("pruned", 0.2, 0.4)])
    share = (2 * 0.2 / 0.6 + PRIOR_TRIALS * REMAINING) / (2 + PRIOR_TRIALS)
    assert pruned.value == pytest.approx(0.9 - share * 0.5)
    error = ((share * 0.3) ** 2 + (0.2 - share * 0.3) ** 2) / (2 + PRIOR_TRIALS)
    assert pruned.sd == pytest.approx(np.sqrt(error + (SPREAD * share * 0.5) ** 2))


def test_a_trial_further_behind_gains_more_and_is_less_certain() -> None:
    complete = [course("complete", 0.5, 0.6, 0.9), course("complete", 0.4, 0.6, 0.8)]
    near, far = forecasts([*complete, course("pruned", 0.5), course("pruned", 0.1)])[-2:]
    assert near.value > far.value
    assert near.value - 0.5 < far.value - 0.1
    assert near.sd < far.sd


def test_a_forecast_is_not_below_what_the_trial_has_reached() -> None:
    complete = [course("complete", 0.5, 0.6, 0.9)]
    assert forecasts([*complete, course("pruned", 0.95)])[-1].value == 0.95


def test_the_extrapolation_grows_more_certain_with_trials_that_agree() -> None:
    complete = [course("complete", 0.5, 0.6, 0.9), course("complete", 0.6, 0.6, 0.9)]
    few, many = (forecasts([*complete * n, course("pruned", 0.2)])[-1].sd for n in (1, 20))
    assert few > 2 * many > 0


def test_a_failed_trial_is_as_bad_as_the_worst() -> None:
    known = forecasts([course("complete", 0.9), course("failed"), course("complete", 0.4)])
    assert [f.value for f in known] == [0.9, 0.4, 0.4]


def test_of_failed_trials_alone_nothing_is_known() -> None:
    assert forecasts([course("failed"), course("failed", 0.1)]) == []
    assert [f.value for f in forecasts([course("pruned", 0.1, 0.3)])] == [0.3]


def test_targets_do_not_depend_on_the_unit() -> None:
    known = [Forecast({}, value, 0.01) for value in (0.1, 0.7, 0.75, 0.8)]
    y, variance = standardised(known)
    assert (y.mean(), y.std()) == pytest.approx((0, 1))
    assert list(y) == sorted(y)
    scaled = standardised([Forecast({}, 100 * f.value - 3, 100 * f.sd) for f in known])
    assert scaled[0] == pytest.approx(y)
    assert scaled[1] == pytest.approx(variance)


def test_a_hopeless_trial_does_not_make_the_others_equal() -> None:
    good = [0.7, 0.75, 0.8, 0.77]
    spread = [np.ptp(standardised([Forecast({}, v, 0.0) for v in (*good, bad)])[0][:4]) for bad in (0.6, 0.01)]
    assert spread[1] > 0.5 * spread[0]


def test_equal_values_are_no_trouble() -> None:
    y, variance = standardised([Forecast({}, 0.5, 0.1)] * 3)
    assert list(y) == [0.0] * 3
    assert np.isfinite(variance).all()
