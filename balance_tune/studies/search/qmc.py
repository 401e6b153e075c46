"""Optuna's quasi-random points for an arm whose every trial has a sampler of its own."""

from __future__ import annotations

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import QMCSampler, RandomSampler


class Qmc(QMCSampler):
    """QMC that takes the point at `position` of the arm's one sequence.

    Optuna's own counts its points in the storage as it draws them: of a trial that a crash cut off between two
    parameters the rest would be drawn from the next point.
    """

    def __init__(self, position: int, *, sequence_seed: int, seed: int) -> None:
        super().__init__(
            scramble=True,
            seed=sequence_seed,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
        self._position = position

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._position
