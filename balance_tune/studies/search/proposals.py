"""The next point of a cell's search, from the trials of its earlier batches alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.search.samplers import sampler_for
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.protocol.space import Space

TYPICAL_TRIALS = 20  # the budget that a sampler assumes where it is not given in trials


class CellSearch:
    """Proposes the points of one cell's search.

    The sampler sees a copy of the search in memory, in which trials of the same batch have no values yet, whether or
    not they have ended by now. The copy is kept from one proposal to the next: a new one for each would cost more than
    the sampler.

    Args:
        config: the study.
        cell: name of the cell; with the number of the trial and the study's seed it seeds the sampler.
        space: what is searched.
    """

    def __init__(self, config: StudyConfig, cell: str, space: Space) -> None:
        self._config, self._cell, self._space = config, cell, space
        self._begin()

    def propose(self, trials: Sequence[FrozenTrial], first: int) -> FrozenTrial:
        """Return the cell's next search trial: its point, and the attributes that the sampler stores with it.

        Args:
            trials: the search trials of the cell so far, in order of their numbers: those of the last call, and
                whatever came after them.
            first: number of the first trial of this batch; all trials before it have ended.
        """
        search, number = self._config.search, len(trials)
        self._update(trials, first)
        self._study.sampler = sampler_for(
            search.sampler,
            study_seed=self._config.seed,
            arm=self._cell,
            number=number,
            trials=search.trials or TYPICAL_TRIALS,
            searched=self._space,
        )
        self._study.ask(self._space.distributions())
        return self._study.get_trials(deepcopy=False)[number]

    def _begin(self) -> None:
        """Begin with an empty copy."""
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            direction=Objective(self._config.objective).direction,
            storage=self._storage,
            pruner=optuna.pruners.NopPruner(),
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)

    def _update(self, trials: Sequence[FrozenTrial], first: int) -> None:
        """Give the copy the trials that it lacks, and their results to those of earlier batches."""
        copies = self._study.get_trials(deepcopy=False)
        if len(copies) > len(trials):  # the last proposal was never stored
            self._begin()
            copies = []
        for copy in [copy for copy in copies[:first] if copy.state == TrialState.RUNNING]:
            self._end(trials[copy.number])
        self._study.add_trials([_without_results(trial) for trial in trials[len(copies) :]])
        for trial in trials[len(copies) : first]:
            self._end(trial)

    def _end(self, trial: FrozenTrial) -> None:
        """Give a running trial of the copy the results of `trial`."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
        for epoch, value in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        values = trial.values if trial.state == TrialState.COMPLETE else None
        self._storage.set_trial_state_values(trial_id, trial.state, values)


def _without_results(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without results and without this package's attributes, which are large; no sampler reads them."""
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
    )
