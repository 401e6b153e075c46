"""Prunes the trials of each arm by a stopping rule of its own; every decision is in the pruning log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.early_stopping.rules import Asha, MedianRule, StoppingRule, rungs


class Pruner:
    """Early stopping for all arms; `epochs[arm]` is how long a full trial of the arm is.

    Opening it refills every rule from the pruning log, in the order in which the decisions were given.
    """

    def __init__(
        self, settings: EarlyStopping, epochs: Mapping[str, int], pruning_log: PruningLog, *, lower: bool
    ) -> None:
        self.pruning_log, self._sign = pruning_log, -1.0 if lower else 1.0
        self._rules = {arm: rule for arm, total in epochs.items() if (rule := _rule(settings, total)) is not None}
        for arm, rule in self._rules.items():
            for decision in pruning_log.of_arm(arm):
                rule.refill(self._signed(decision))
        self._given = {(arm, v.number, v.epoch) for arm in self._rules for v in pruning_log.of_arm(arm)}

    def should_prune(self, arm: str, number: int, epoch: int, value: float, min_epochs: int = 0) -> bool:
        """Return whether to stop search trial `number` of `arm` after `epoch`; the decision is on disk by then.

        `value` is the objective at exactly that epoch, in its own unit; a value that is not finite is never judged.
        """
        rule = self._rules.get(arm)
        if rule is None or not math.isfinite(value):
            return False
        decision = rule.report(number, epoch, self._sign * value, min_epochs)
        if decision is None:
            return False
        if (arm, number, epoch) not in self._given:
            self.pruning_log.append(arm, self._signed(decision))
            self._given.add((arm, number, epoch))
        return decision.stop

    def _signed(self, decision: Decision) -> Decision:
        if self._sign > 0:
            return decision
        threshold = None if decision.threshold is None else -decision.threshold
        return dataclasses.replace(decision, value=-decision.value, threshold=threshold)


def rung_epochs(settings: EarlyStopping, epochs: int, min_epochs: int) -> Collection[int]:
    """Return the epochs after which a search trial of so many epochs is judged."""
    if settings.kind == "asha":
        return [rung for rung in rungs(epochs, settings.grace, settings.reduction) if rung >= min_epochs]
    if settings.kind == "median":
        return range(max(settings.grace, min_epochs), epochs)
    return ()


def _rule(settings: EarlyStopping, epochs: int) -> StoppingRule | None:
    if settings.kind == "asha":
        return Asha(epochs, grace=settings.grace, reduction=settings.reduction)
    if settings.kind == "median":
        return MedianRule(epochs, grace=settings.grace)
    return None
