"""A Gaussian process for a few hundred noisy observations in the unit cube, averaged over its hyperparameters.

    y_i = m + c h(x_i) + f(x_i) + e_i        h(x) = exp(-|x - centre|^2 / (2 w^2)), w^2 = WIDTH^2 max(1, d / 2)

with m ~ N(0, 1), c ~ N(1, 1), f a process with covariance s^2 Matern-5/2 and one length scale per dimension, and
e_i ~ N(0, noise + variance_i). h is the belief that points about `centre` are good; the more is observed, the less it
weighs. Targets are expected in their own standard units.

Length scales, s^2 and noise are not fitted, which a dozen observations do not allow: they are drawn from their prior,
and predictions are weighted by marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, sections 2.2, 2.7 and 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS, N_KEPT = 48, 8  # hyperparameters drawn, and those of the largest weights that predict
LENGTH, LENGTH_SD = 0.4, 0.8  # prior of a length scale: log-normal, its median times sqrt(d)
NOISE, NOISE_SD = 0.1, 1.0  # prior of the noise variance: log-normal
SCALE_SD = 0.7  # prior of s^2: log-normal, median 1
WIDTH = 0.6  # of the belief in the default, in the unit cube
JITTER = 1e-8


@dataclass(frozen=True)
class Observations:
    """Points `x` (n, d) with targets `y` (n,) and the known part `variance` (n,) of their noise."""

    x: Floats
    y: Floats
    variance: Floats


@dataclass(frozen=True)
class Hyperparameters:
    """Draws of `lengths` (k, d), `scale` (k,) and `noise` (k,), and their `weights` (k,), which add up to 1."""

    lengths: Floats
    scale: Floats
    noise: Floats
    weights: Floats

    def best(self, count: int) -> Hyperparameters:
        """Return the `count` draws of the largest weights."""
        order = np.argsort(-self.weights, kind="stable")[:count]
        weights = self.weights[order]
        return Hyperparameters(self.lengths[order], self.scale[order], self.noise[order], weights / weights.sum())


class GaussianProcess:
    """The posterior after some observations.

    Args:
        seen: the observations.
        centre: (d,) point that is believed to be good; None: there is none.
        rng: draws the hyperparameters.
        pending: (p, d) points whose targets are still to come; each counts as observed at its predicted mean, so that
            the uncertainty there is gone.
    """

    def __init__(
        self, data: Observations, centre: Floats | None, rng: np.random.Generator, pending: Floats | None = None
    ) -> None:
        self._centre = centre
        self._condition(data, weighted(data, self._bump(data.x), draw(rng, data.x.shape[1])).best(N_KEPT))
        if pending is not None and len(pending):
            self._believe(data, pending)

    @property
    def weights(self) -> Floats:
        """(k,) weights of the hyperparameters."""
        return self._hyper.weights

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (without noise), each (k, m), at points `x` (m, d)."""
        bump = self._bump(x)
        k = covariance(x, self._x, bump, self._bump(self._x), self._hyper)
        mean = bump + (k @ self._alpha[..., None])[..., 0]
        own = self._hyper.scale[:, None] + 1 + bump**2
        variance = own - ((k @ self._inverse) * k).sum(-1)
        return mean, np.sqrt(np.maximum(variance, JITTER))

    def mean(self, x: Floats) -> Floats:
        """Return the mean (m,) at points `x` (m, d)."""
        return self.weights @ self.predict(x)[0]

    def _condition(self, data: Observations, hyper: Hyperparameters, y: Floats | None = None) -> None:
        """Condition on the observations, with targets `y` (k, n) where they differ between the hyperparameters."""
        bump = self._bump(data.x)
        self._x, self._hyper = data.x, hyper
        self._inverse = np.linalg.inv(noisy(covariance(data.x, data.x, bump, bump, hyper), data.variance, hyper))
        rest = np.broadcast_to((data.y if y is None else y) - bump, (len(hyper.weights), len(data.x)))
        self._alpha = (self._inverse @ rest[..., None])[..., 0]

    def _believe(self, data: Observations, pending: Floats) -> None:
        means = self.predict(pending)[0]
        y = np.concatenate([np.broadcast_to(data.y, (len(means), len(data.y))), means], axis=1)
        x, variance = np.vstack([data.x, pending]), np.concatenate([data.variance, np.zeros(len(pending))])
        self._condition(Observations(x, y[0], variance), self._hyper, y)

    def _bump(self, x: Floats) -> Floats:
        if self._centre is None:
            return np.zeros(len(x))
        width = WIDTH**2 * max(1.0, x.shape[1] / 2)
        bump: Floats = np.exp(-((x - self._centre) ** 2).sum(1) / (2 * width))
        return bump


def draw(rng: np.random.Generator, dimensions: int) -> Hyperparameters:
    """Return draws of the prior, equally weighted; the first is its median."""
    z = rng.normal(size=(DRAWS, dimensions + 2))
    z[0] = 0.0
    lengths = LENGTH * math.sqrt(dimensions) * np.exp(LENGTH_SD * z[:, :dimensions])
    scale, noise = np.exp(SCALE_SD * z[:, -2]), NOISE * np.exp(NOISE_SD * z[:, -1])
    return Hyperparameters(lengths, scale, noise, np.full(DRAWS, 1 / DRAWS))


def weighted(data: Observations, bump: Floats, hyper: Hyperparameters) -> Hyperparameters:
    """Return the same hyperparameters, weighted by the marginal likelihood of the observations."""
    k = noisy(covariance(data.x, data.x, bump, bump, hyper), data.variance, hyper)
    lower = np.linalg.cholesky(k)
    rest = np.broadcast_to((data.y - bump)[:, None], (len(k), len(data.y), 1))
    white = np.linalg.solve(lower, rest)[..., 0]
    log_likelihood = -0.5 * (white**2).sum(1) - np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    return Hyperparameters(hyper.lengths, hyper.scale, hyper.noise, weights / weights.sum())


def covariance(a: Floats, b: Floats, bump_a: Floats, bump_b: Floats, hyper: Hyperparameters) -> Floats:
    """Return the prior covariance (k, m, n) of points `a` (m, d) and `b` (n, d) under each of k hyperparameters."""
    left, right = a / hyper.lengths[:, None], b / hyper.lengths[:, None]
    square = (left**2).sum(-1)[:, :, None] + (right**2).sum(-1)[:, None, :]
    square -= 2 * left @ right.transpose(0, 2, 1)
    r = np.sqrt(5 * np.maximum(square, 0, out=square), out=square)
    k: Floats = np.exp(-r)
    k *= (r / 3 + 1) * r + 1
    k *= hyper.scale[:, None, None]
    k += 1 + np.outer(bump_a, bump_b)
    return k


def noisy(k: Floats, variance: Floats, hyper: Hyperparameters) -> Floats:
    """Return covariances (k, n, n) with the noise of the observations on their diagonals."""
    diagonal = np.arange(k.shape[-1])
    k[:, diagonal, diagonal] += hyper.noise[:, None] + variance + JITTER
    return k


def expected_improvement(mean: Floats, sd: Floats, best: Floats) -> Floats:
    """Return E[max(0, f - best)] for f ~ N(mean, sd^2), of any shapes that broadcast."""
    from scipy.special import ndtr

    z = (mean - best) / sd
    improvement: Floats = sd * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
    return improvement
