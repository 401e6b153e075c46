"""Optuna's samplers, made afresh for every trial, so that what is proposed never depends on who was running before."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.search_space import IntersectionSearchSpace


def sampler_for(
    kind: str, *, study_seed: int, arm: str, number: int, trials: int, space: IntersectionSearchSpace | None = None
) -> BaseSampler:
    """Return the sampler of one trial; its randomness follows from (study seed, arm, trial number) alone.

    `kind` is tpe, random, gp, cmaes or qmc; `trials` is the arm's budget, a quarter of which (at least 4) is drawn at
    random first, where the sampler learns from trials. `space` (see `tpe.common_space`), handed to the samplers of one
    arm, changes nothing but the time that TPE takes.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    seed = _seed(study_seed, arm, number)
    startup = max(4, trials // 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match kind:
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "cmaes":
                return samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=startup, consider_pruned_trials=True, warn_independent_sampling=False
                )
            case "qmc":  # one sequence per arm
                from balance_tune.studies.search.qmc import Qmc

                return Qmc(number, sequence_seed=_seed(study_seed, arm, -1), seed=seed)
            case _:
                from balance_tune.studies.search.tpe import Tpe, common_space

                return Tpe(space or common_space(), seed=seed, n_startup_trials=startup)


def _seed(study_seed: int, arm: str, number: int) -> int:
    text = f"{study_seed}/{arm}/{number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
