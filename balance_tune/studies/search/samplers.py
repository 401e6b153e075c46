"""Optuna's samplers, made afresh for every trial, so that what is proposed never depends on who was running before."""

from __future__ import annotations

import hashlib
import warnings

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial

from balance_tune.studies.private_apis import qmc_at
from balance_tune.studies.protocol.space import Space
from balance_tune.studies.search.gp_sampler import GpSampler

GP_TRIALS = 200  # from there on a Gaussian process takes too long


def sampler_for(
    kind: str,
    *,
    study_seed: int,
    arm: str,
    number: int,
    trials: int,
    searched: Space,
    space: IntersectionSearchSpace | None = None,
) -> BaseSampler:
    """Return the sampler of one trial; its randomness follows from (study seed, arm, trial number) alone.

    Args:
        kind: gp, tpe, random, cmaes or qmc; `gp` is `tpe` from trial `GP_TRIALS` on, when a Gaussian process is slow.
        study_seed: the study's seed.
        arm: the arm's name.
        number: the trial's number.
        trials: the arm's budget, a quarter of which (at least 4) tpe and cmaes draw at random first.
        searched: the arm's search space; `gp` needs it.
        space: see `common_space`; handed to the samplers of one arm, it changes nothing but the time that TPE takes.
    """
    seed = _seed(study_seed, arm, number)
    startup = max(4, trials // 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match kind:
            case "random":
                return RandomSampler(seed=seed)
            case "gp" if number < GP_TRIALS:
                return GpSampler(searched, seed=seed)
            case "cmaes":
                return CmaEsSampler(
                    seed=seed, n_startup_trials=startup, consider_pruned_trials=True, warn_independent_sampling=False
                )
            case "qmc":  # one sequence per arm
                return qmc_at(
                    number,
                    scramble=True,
                    seed=_seed(study_seed, arm, -1),
                    independent_sampler=RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )
            case _:
                return Tpe(space or common_space(), seed=seed, n_startup_trials=startup)


def _seed(study_seed: int, arm: str, number: int) -> int:
    text = f"{study_seed}/{arm}/{number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


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
