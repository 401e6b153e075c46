"""The sampler `gp`: expected improvement under a Gaussian process whose prior mean favours the declared default.

Optuna's `GPSampler` learns from complete trials only, which early stopping leaves few of, knows no default, and loads
torch into the driver. Here pruned trials count with an extrapolation and its uncertainty (`forecast`), and the prior
favours points about the default until trials contradict it (`gaussian_process`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from balance_tune.studies.protocol.space import Space
from balance_tune.studies.surrogate.forecast import Course, forecasts, standardised
from balance_tune.studies.surrogate.gaussian_process import GaussianProcess, Observations, expected_improvement
from balance_tune.studies.surrogate.unit_cube import UnitCube

Floats = NDArray[np.float64]

STARTUP = 3  # finished trials, the default's included, before the model decides
ANYWHERE, NEAR = 300, 15  # candidates drawn from the whole space, and about a good point at each distance
DISTANCES = (0.02, 0.07, 0.2)
MOVE_PROBABILITY, ANEW = 0.3, 0.25  # probability that a parameter differs, and that it is drawn anew then
SAME = 1e-9  # distance in every feature below which two points are one
GOOD = 3  # best points by the model about which candidates are drawn
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class GpSampler(BaseSampler):
    """Proposes the candidate with the largest expected improvement.

    What is proposed follows from `seed` and the trials with smaller numbers alone.

    Args:
        space: the arm's search space with its defaults.
        seed: of the candidates and the hyperparameters.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space, self._cube, self._seed = space, UnitCube(space.ranges(), space.defaults()), seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space: all parameters are proposed together."""
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point for `trial`."""
        rng = np.random.default_rng(self._seed)
        earlier = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number]
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        outcomes = forecasts(_course(t, sign) for t in earlier if t.state in STATES)
        if len(outcomes) < STARTUP:
            return self._cube.point(rng.random(self._cube.dimensions))
        units = self._cube.units([f.params for f in outcomes])
        default = self._cube.units([self._space.defaults()])
        pending = self._cube.units([t.params for t in earlier if t.state == TrialState.RUNNING and t.params])
        of_trials = self._cube.features(units)
        centre, unfinished = self._cube.features(default)[0], self._cube.features(pending)
        model = GaussianProcess(Observations(of_trials, *standardised(outcomes)), centre, rng, unfinished)
        means = model.predict(of_trials)[0]
        order = np.argsort(-(model.weights @ means), kind="stable")[:GOOD]
        candidates = self._candidates(rng, np.vstack([units[order], default]))
        best = means.max(1, keepdims=True)
        features = self._cube.features(candidates)
        improvement = model.weights @ expected_improvement(*model.predict(features), best)
        improvement[~_new(features, np.vstack([of_trials, unfinished]))] = -1.0  # the select phase repeats points
        return self._cube.point(candidates[int(improvement.argmax())])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value of a parameter that the space does not have."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _candidates(self, rng: np.random.Generator, good: Floats) -> Floats:
        """Return places all over the cube, and places that differ from a `good` one (g, d) in some parameters.

        These are moved by a little or drawn anew; choices and whole numbers change only when drawn anew.
        """
        d = self._cube.dimensions
        shape = (len(good), len(DISTANCES), NEAR, d)
        mask = (rng.random(shape) < MOVE_PROBABILITY) | (rng.integers(d, size=shape[:-1])[..., None] == np.arange(d))
        place = np.broadcast_to(good[:, None, None], shape)
        near = np.clip(place + rng.normal(size=shape) * np.array(DISTANCES)[:, None, None], 0.0, 1.0)
        near = np.where(rng.random(shape) < ANEW, rng.random(shape), near)
        return np.vstack([rng.random((ANYWHERE, d)), np.where(mask, near, place).reshape(-1, d)])


def _new(features: Floats, points: Floats) -> NDArray[np.bool_]:
    """Return which rows (n,) of the features of candidates (n, f) are none of those of `points` (m, f)."""
    same: NDArray[np.bool_] = (np.abs(features[:, None] - points[None]).max(-1) < SAME).any(1)
    return ~same


def _course(trial: FrozenTrial, sign: float) -> Course:
    values = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
    return Course(trial.params, STATES[trial.state], [sign * value for value in values])
