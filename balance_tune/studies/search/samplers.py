"""Optuna's samplers. Each trial gets a new one, so that a proposal never depends on earlier runs of the process."""

from __future__ import annotations

import hashlib
import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler

from balance_tune.studies.private_apis import qmc_at
from balance_tune.studies.protocol.space import Space
from balance_tune.studies.search.gp_sampler import GpSampler

GP_TRIALS = 100  # from there on a Gaussian process takes more than 50 ms


def sampler_for(
    kind: str,
    *,
    study_seed: int,
    arm: str,
    number: int,
    trials: int,
    searched: Space,
) -> BaseSampler:
    """Return the sampler of one trial; its randomness follows from (study seed, arm, trial number) alone.

    Args:
        kind: gp, tpe, random, cmaes or qmc; `gp` is `tpe` from trial `GP_TRIALS` on, when a Gaussian process is slow.
        study_seed: the study's seed.
        arm: the arm's name.
        number: the trial's number.
        trials: the arm's budget, a quarter of which (at least 4) tpe and cmaes draw at random first.
        searched: the arm's search space; `gp` needs it.
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
                return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def _seed(study_seed: int, arm: str, number: int) -> int:
    text = f"{study_seed}/{arm}/{number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
