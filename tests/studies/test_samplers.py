"""Samplers whose randomness depends on the trial's place alone."""

from __future__ import annotations

import optuna
import pytest

from balance_tune.studies.samplers import sampler_for

SPACE = {"x": optuna.distributions.FloatDistribution(0, 1), "y": optuna.distributions.CategoricalDistribution("abc")}


def drawn(kind: str, number: int, *, seed: int = 0, arm: str = "d/a") -> dict[str, object]:
    """Return the point of the trial after `number` others."""
    study = optuna.create_study(direction="maximize")
    for n in range(number + 1):
        study.sampler = sampler_for(kind, study_seed=seed, arm=arm, number=n, trials=12)
        trial = study.ask(SPACE)
        if n < number:
            study.tell(trial, trial.params["x"])
    return trial.params


@pytest.mark.parametrize("kind", ["tpe", "random", "gp", "cmaes", "qmc"])
def test_a_trials_point_follows_from_study_seed_arm_and_number(kind: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert drawn(kind, 6) == drawn(kind, 6)
    assert drawn(kind, 2) != drawn(kind, 2, seed=1)
    assert drawn(kind, 2) != drawn(kind, 2, arm="d/b")
    assert drawn(kind, 2) != drawn(kind, 1)


def test_tpe_learns_where_the_good_points_are() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    late = [drawn("tpe", 30, seed=seed)["x"] for seed in range(5)]
    assert sum(isinstance(x, float) and x > 0.6 for x in late) >= 4
