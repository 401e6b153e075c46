"""What a sampler is shown of a cell's search."""

from __future__ import annotations

import math
import random
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.search.proposals import CellSearch
from tests.studies.toy import toy_arm, toy_config

SAMPLERS = ["tpe", "random", "qmc", "cmaes", "gp"]
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


def proposal(config: StudyConfig, cell: str, trials: list[FrozenTrial], first: int) -> FrozenTrial:
    """Return what a search that knows no earlier proposal proposes after the trials."""
    return CellSearch(config, cell, SPACE).propose(trials, first)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_of_the_same_batch_change_nothing(sampler: str) -> None:
    config = toy_config(search={"trials": 12, "sampler": sampler, "parallel": 3})
    before = [0.1, 0.9, 0.3, 0.5, 0.2, 0.8]
    points = [
        proposal(config, "d1/joint", trials([*before, *rest]), first=6).params
        for rest in ([None, None], [0.99, None], [0.0, 0.7])
    ]
    assert points[0] == points[1] == points[2]
    other: Any = proposal(config, "d1/joint#2", trials(before), first=6).params
    assert set(other) == {"modulation.x"}


def test_proposals_follow_the_values_of_earlier_batches() -> None:
    config = toy_config(search={"trials": 40, "sampler": "tpe"})
    low = [1.0 - (0.37 * n) % 1 for n in range(20)]
    high = [(0.37 * n) % 1 for n in range(20)]
    ours, theirs = (proposal(config, "d1/joint", trials(v), first=20).params["modulation.x"] for v in (low, high))
    assert ours < 0.5 < theirs


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_search_that_goes_on_proposes_what_one_that_is_resumed_proposes(sampler: str, parallel: int) -> None:
    """Trials end in any order within their batch: complete, pruned, or failed."""
    config = toy_config(search={"trials": 30, "sampler": sampler, "parallel": parallel})
    study = optuna.create_study(direction="maximize")
    search, draw = CellSearch(config, "d1/joint", SPACE), random.Random(0)
    running: list[int] = []
    for number in range(18):
        first = number - number % parallel
        while running and running[0] < first:
            other = running.pop(draw.randrange(len(running)))
            state = draw.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            optuna.Trial(study, other).report(math.nan if state == TrialState.FAIL else draw.random(), 1)
            study.tell(other, draw.random() if state == TrialState.COMPLETE else None, state)
        so_far = study.get_trials()
        point = search.propose(so_far, first)
        others = [proposal(config, "d1/joint", so_far, first)]
        if number == 7:  # it was not stored: the next proposal is the same
            others.append(search.propose(so_far, first))
        assert {(str(p.params), str(p.system_attrs)) for p in others} == {(str(point.params), str(point.system_attrs))}
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING, params=dict(point.params), distributions=SPACE.distributions(),
                system_attrs=dict(point.system_attrs),
            )
        )  # fmt: skip
        running.append(number)
