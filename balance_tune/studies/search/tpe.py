"""Optuna's TPE for an arm whose every trial has a sampler of its own."""

from __future__ import annotations

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial


class Tpe(TPESampler):
    """TPE that takes the space common to an arm's trials from `space`, which outlives the sampler.

    The space compares every finished trial once. A sampler's own would compare all of them in each trial, which takes
    longer than the proposal itself.
    """

    def __init__(self, space: IntersectionSearchSpace, *, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, constant_liar=True)
        self._common = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what trials have had in common so far, without parameters that have one value only."""
        found = self._common.calculate(study, use_cache=True)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}


def common_space() -> IntersectionSearchSpace:
    """Return an empty space to be handed to the samplers of one arm, one after another."""
    return IntersectionSearchSpace(include_pruned=True)
