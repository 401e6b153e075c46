"""The sampler `gp`: what it proposes follows from its seed and the earlier trials, and gets better with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from balance_tune.studies.protocol.space import Parameter, Space
from balance_tune.studies.search.gp_sampler import STARTUP, GpSampler
from tests.studies.search.test_samplers import SPACE, far

DISTRIBUTIONS = SPACE.distributions()


def study_of(trials: int = 8, state: TrialState | None = None, direction: str = "maximize") -> optuna.Study:
    """Return a study of random trials with four epochs each, every third of which is pruned after one."""
    study = optuna.create_study(direction=direction)
    sign = 1 if direction == "maximize" else -1
    for number in range(trials):
        trial = ask(study, optuna.samplers.RandomSampler(seed=number))
        value = sign * (1 - far(trial.params))
        ended = state or (TrialState.PRUNED if number % 3 == 2 else TrialState.COMPLETE)
        for epoch in range(1, 2 if ended == TrialState.PRUNED else 5):
            trial.report(value - sign * 0.5**epoch, epoch)
        study.tell(trial, value if ended == TrialState.COMPLETE else None, state=ended)
    return study


def ask(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> optuna.Trial:
    study.sampler = sampler
    return study.ask(DISTRIBUTIONS)


def proposed(study: optuna.Study, seed: int = 0) -> Mapping[str, Any]:
    return ask(study, GpSampler(SPACE, seed=seed)).params


def test_a_proposal_follows_from_seed_and_history() -> None:
    assert proposed(study_of()) == proposed(study_of())
    assert proposed(study_of(), seed=1) != proposed(study_of())
    assert proposed(study_of(20)) != proposed(study_of())


def test_later_trials_change_nothing() -> None:
    study = study_of()
    trial = ask(study, GpSampler(SPACE, seed=0))
    later = ask(study, optuna.samplers.RandomSampler(seed=0))
    study.tell(later, 5.0)
    frozen = study.get_trials(deepcopy=False)[trial.number]
    assert GpSampler(SPACE, seed=0).sample_relative(study, frozen, DISTRIBUTIONS) == trial.params


def test_a_study_that_minimises_is_the_mirror_of_one_that_maximises() -> None:
    assert proposed(study_of(direction="minimize")) == proposed(study_of())


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_trials_that_all_failed_or_were_all_pruned_are_no_trouble(state: TrialState) -> None:
    assert SPACE.contains(proposed(study_of(state=state)))


def test_a_running_trial_is_not_proposed_again() -> None:
    study = study_of()
    points = [proposed(study, seed=0) for _ in range(3)]
    assert all(a != b for i, a in enumerate(points) for b in points[:i])


def test_trials_without_a_parameter_are_no_trouble() -> None:
    study = optuna.create_study(direction="maximize")
    known = {name: d for name, d in DISTRIBUTIONS.items() if name != "modulation.mode"}
    for number in range(6):
        study.sampler = optuna.samplers.RandomSampler(seed=number)
        trial = study.ask(known)
        trial.report(0.1 * number, 1)
        study.tell(trial, 0.1 * number)
    assert SPACE.contains(proposed(study))


def test_before_the_model_decides_points_are_spread_over_the_space() -> None:
    lrs = [proposed(study_of(STARTUP - 1), seed=seed)["training.lr"] for seed in range(40)]
    assert np.quantile(np.log10(lrs), [0.25, 0.75]) == pytest.approx([-2.25, -0.75], abs=0.5)


def test_it_finds_the_best_point_sooner_than_random_search() -> None:
    def best(make: Any) -> float:
        found = []
        for seed in range(4):
            study = optuna.create_study(direction="maximize")
            study.enqueue_trial(SPACE.defaults())
            for number in range(16):
                trial = ask(study, make(100 * seed + number))
                trial.report(1 - far(trial.params), 1)
                study.tell(trial, 1 - far(trial.params))
            found.append(min(far(t.params) for t in study.trials))
        return float(np.mean(found))

    random = best(lambda seed: optuna.samplers.RandomSampler(seed=seed))
    assert best(lambda seed: GpSampler(SPACE, seed=seed)) < 0.6 * random


def test_a_space_that_is_exhausted_is_searched_on() -> None:
    space = Space((Parameter("mode", "categorical", None, None, False, ("a", "b"), "a", ""),), {})
    study = optuna.create_study(direction="maximize")
    seen = []
    for number in range(8):
        study.sampler = GpSampler(space, seed=number)
        trial = study.ask(space.distributions())
        trial.report(float(trial.params["mode"] == "b"), 1)
        study.tell(trial, float(trial.params["mode"] == "b"))
        seen.append(trial.params["mode"])
    assert set(seen) == {"a", "b"}
