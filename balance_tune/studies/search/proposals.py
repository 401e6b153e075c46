"""The next point of a cell's search, from the trials of its earlier batches alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.search.samplers import sampler_for
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.protocol.space import Space

TYPICAL_TRIALS = 20  # the budget that a sampler assumes where it is not given in trials


@dataclass(frozen=True)
class Proposal:
    """A point, and the attributes that the sampler stores with the trial."""

    params: Mapping[str, Any]
    system_attrs: Mapping[str, Any]


def propose(config: StudyConfig, cell: str, space: Space, trials: Sequence[FrozenTrial], first: int) -> Proposal:
    """Return the point of the cell's next search trial.

    The sampler sees a copy of the search in memory, in which trials of the same batch have no values yet, whether or
    not they have ended by now.

    Args:
        config: the study.
        cell: name of the cell; with the number of the trial and the study's seed it seeds the sampler.
        space: what is searched.
        trials: the search trials of the cell so far, in order of their numbers.
        first: number of the first trial of this batch.
    """
    search, number = config.search, len(trials)
    trials_planned = search.trials or TYPICAL_TRIALS
    sampler = sampler_for(
        search.sampler, study_seed=config.seed, arm=cell, number=number, trials=trials_planned, searched=space
    )
    study = optuna.create_study(
        direction=Objective(config.objective).direction, sampler=sampler, pruner=optuna.pruners.NopPruner()
    )
    study.add_trials([_without_results(t) if t.number >= first else _without_attributes(t) for t in trials])
    study.ask(space.distributions())
    frozen = study.get_trials(deepcopy=False)[number]
    return Proposal(frozen.params, frozen.system_attrs)


def _without_attributes(trial: FrozenTrial) -> FrozenTrial:
    """Return an ended trial without this package's attributes, which are large and which no sampler reads."""
    return create_trial(
        state=trial.state,
        values=trial.values if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )


def _without_results(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
    )
