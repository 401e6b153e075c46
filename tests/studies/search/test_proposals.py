"""What a sampler is shown of a cell's search."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from balance_tune.studies.search.proposals import propose
from tests.studies.toy import toy_arm, toy_config

SPACE = toy_arm("d1/joint").space


def trials(values: list[float | None]) -> list[FrozenTrial]:
    """Return search trials at points of their own; those without a value are running."""
    made = []
    for number, value in enumerate(values):
        made.append(create_trial(
            state=TrialState.RUNNING if value is None else TrialState.COMPLETE, value=value,
            params={"modulation.x": (0.37 * number) % 1}, distributions=SPACE.distributions(),
            user_attrs={"metrics": {"val/accuracy": value}},
            intermediate_values={} if value is None else {1: value},
        ))  # fmt: skip
    study = optuna.create_study(direction="maximize")
    study.add_trials(made)
    return study.get_trials()


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "gp"])
def test_values_of_the_same_batch_change_nothing(sampler: str) -> None:
    config = toy_config(search={"trials": 12, "sampler": sampler, "parallel": 3})
    before = [0.1, 0.9, 0.3, 0.5, 0.2, 0.8]
    points = [
        propose(config, "d1/joint", SPACE, trials([*before, *rest]), first=6).params
        for rest in ([None, None], [0.99, None], [0.0, 0.7])
    ]
    assert points[0] == points[1] == points[2]
    other: Any = propose(config, "d1/joint#2", SPACE, trials(before), first=6).params
    assert set(other) == {"modulation.x"}


def test_proposals_follow_the_values_of_earlier_batches() -> None:
    config = toy_config(search={"trials": 40, "sampler": "tpe"})
    low = [1.0 - (0.37 * n) % 1 for n in range(20)]
    high = [(0.37 * n) % 1 for n in range(20)]
    ours, theirs = (propose(config, "d1/joint", SPACE, trials(v), first=20).params["modulation.x"] for v in (low, high))
    assert ours < 0.5 < theirs
