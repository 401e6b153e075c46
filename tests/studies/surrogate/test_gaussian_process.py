"""The Gaussian process against closed forms and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from balance_tune.studies.surrogate import gaussian_process
from balance_tune.studies.surrogate.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    Observations,
    covariance,
    draw,
    expected_improvement,
    noisy,
    weighted,
)

RNG = np.random.default_rng(0)
ONE = Hyperparameters(np.array([[0.3, 0.8]]), np.array([1.7]), np.array([0.2]), np.array([1.0]))


def observations(n: int = 6, d: int = 2) -> Observations:
    rng = np.random.default_rng(n)
    return Observations(rng.random((n, d)), rng.normal(size=n), rng.random(n) * 0.1)


def test_the_covariance_is_that_of_the_definition() -> None:
    a, b, bumps = RNG.random((5, 2)), RNG.random((3, 2)), (RNG.random(5), RNG.random(3))
    k = covariance(a, b, *bumps, ONE)[0]
    for i, j in np.ndindex(5, 3):
        r = math.sqrt(5 * (((a[i] - b[j]) / [0.3, 0.8]) ** 2).sum())
        matern = (1 + r + r**2 / 3) * math.exp(-r)
        assert k[i, j] == pytest.approx(1.7 * matern + 1 + bumps[0][i] * bumps[1][j])


def test_weights_are_marginal_likelihoods() -> None:
    seen, bump = observations(), RNG.random(6)
    hyper = draw(np.random.default_rng(1), 2)
    k = noisy(covariance(seen.x, seen.x, bump, bump, hyper), seen.variance, hyper)
    rest = seen.y - bump
    known = np.array([math.exp(-0.5 * rest @ np.linalg.inv(one) @ rest) / math.sqrt(np.linalg.det(one)) for one in k])
    assert weighted(seen, bump, hyper).weights == pytest.approx(known / known.sum())


def test_one_observation_gives_the_posterior_of_the_textbook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "draw", lambda rng, d: ONE)
    seen = Observations(np.array([[0.5, 0.5]]), np.array([2.0]), np.array([0.3]))
    mean, sd = GaussianProcess(seen, None, RNG).predict(seen.x)
    prior = 1.7 + 1  # of the process and of the mean
    shrink = prior / (prior + 0.2 + 0.3)
    assert mean[0, 0] == pytest.approx(2.0 * shrink)
    assert sd[0, 0] ** 2 == pytest.approx(prior * (1 - shrink), rel=1e-6)


def test_without_trials_nearby_the_point_that_is_believed_to_be_good_is_the_best() -> None:
    centre = np.array([0.2, 0.2])
    seen = Observations(np.array([[0.9, 0.9]]), np.array([0.0]), np.zeros(1))
    means = GaussianProcess(seen, centre, np.random.default_rng(0)).mean(np.array([[0.2, 0.2], [0.5, 0.5], [0.9, 0.1]]))
    assert means[0] > means[1] > means[2]


def test_the_belief_gives_way_to_evidence() -> None:
    centre = np.array([0.2])
    x = np.linspace(0, 1, 21)[:, None]
    truth = (x[:, 0] - 0.2) ** 2  # worst at the centre
    seen = Observations(x, (truth - truth.mean()) / truth.std(), np.zeros(21))
    believed = GaussianProcess(seen, centre, np.random.default_rng(0)).mean(x)
    assert believed.argmin() in (3, 4, 5)
    assert np.abs(believed - seen.y).max() < 0.5


def test_uncertain_observations_count_less() -> None:
    x, y = np.array([[0.2], [0.8]]), np.array([1.0, -1.0])
    sure = GaussianProcess(Observations(x, y, np.zeros(2)), None, np.random.default_rng(0)).mean(x)
    unsure = GaussianProcess(Observations(x, y, np.array([0.0, 9.0])), None, np.random.default_rng(0)).mean(x)
    assert unsure[1] > sure[1] + 0.3


def test_a_pending_point_loses_its_uncertainty_but_keeps_its_mean() -> None:
    seen, there = observations(), np.array([[0.1, 0.95]])
    before = GaussianProcess(seen, None, np.random.default_rng(0)).predict(there)
    after = GaussianProcess(seen, None, np.random.default_rng(0), pending=there).predict(there)
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert (after[1] < before[1]).all()


def test_the_order_of_observations_does_not_matter() -> None:
    seen, at = observations(), RNG.random((4, 2))
    turned = Observations(seen.x[::-1], seen.y[::-1], seen.variance[::-1])
    one = GaussianProcess(seen, at[0], np.random.default_rng(0)).mean(at)
    assert GaussianProcess(turned, at[0], np.random.default_rng(0)).mean(at) == pytest.approx(one)


def test_duplicates_and_equal_targets_are_no_trouble() -> None:
    seen = Observations(np.full((30, 3), 0.5), np.zeros(30), np.zeros(30))
    mean, sd = GaussianProcess(seen, None, np.random.default_rng(0)).predict(np.array([[0.5] * 3, [0.0] * 3]))
    assert np.isfinite(mean).all()
    assert (sd > 0).all()


def test_expected_improvement_is_the_mean_of_the_improvement() -> None:
    mean, sd, best = np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.1, 2.0]), np.array(0.5)
    drawn = mean + sd * np.random.default_rng(0).normal(size=(400_000, 3))
    known = np.maximum(drawn - best, 0).mean(0)
    assert expected_improvement(mean, sd, best) == pytest.approx(known, abs=0.005)
    assert expected_improvement(np.array(0.0), np.array(1.0), np.array(0.0)) == pytest.approx(
        1 / math.sqrt(2 * math.pi)
    )
