"""Prunes the trials of each arm by a stopping rule of its own; every decision is in the pruning log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.early_stopping.rules import rule_of
from balance_tune.tasks import Objective


class Pruner:
    """Early stopping of all arms; trials of different arms are never compared.

    It begins with the decisions of earlier runs of the study, which are in the pruning log.

    Args:
        settings: the study's early stopping.
        epochs: arm name -> length of a full trial.
        pruning_log: the decisions so far, in the order in which they were made.
        objective: what the values are of.
    """

    def __init__(
        self, settings: EarlyStopping, epochs: Mapping[str, int], pruning_log: PruningLog, objective: Objective
    ) -> None:
        self.pruning_log, self._objective = pruning_log, objective
        self._rules = {arm: rule_of(settings, total) for arm, total in epochs.items()}
        self._logged = {(arm, d.number, d.epoch) for arm in self._rules for d in pruning_log.of_arm(arm)}
        for arm, rule in self._rules.items():
            for decision in pruning_log.of_arm(arm):
                rule.refill(self._signed(decision))

    def should_prune(self, arm: str, number: int, epoch: int, value: float, min_epochs: int = 0) -> bool:
        """Return whether to prune a search trial after an epoch; the decision is on disk by then.

        Args:
            arm: the arm's name.
            number: the trial's number in its arm.
            epoch: epochs that the trial has trained.
            value: the objective at exactly this epoch, in its own unit; a value that is not finite is never judged.
            min_epochs: the first epoch at which the trial may be pruned.
        """
        if arm not in self._rules or not math.isfinite(value):
            return False
        decision = self._rules[arm].report(number, epoch, self._objective.gain(value), min_epochs)
        if decision is None:
            return False
        if (arm, number, epoch) not in self._logged:
            self.pruning_log.append(arm, self._signed(decision))
            self._logged.add((arm, number, epoch))
        return decision.stop

    def _signed(self, decision: Decision) -> Decision:
        """Return a decision of the log as the rule sees it, or the other way round."""
        gain = self._objective.gain
        threshold = None if decision.threshold is None else gain(decision.threshold)
        return dataclasses.replace(decision, value=gain(decision.value), threshold=threshold)
