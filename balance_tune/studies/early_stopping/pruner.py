"""Judges the trials of a study by one stopping rule per arm, with every verdict in the ledger; arms never compete."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Ledger, Verdict
from balance_tune.studies.early_stopping.rules import Asha, MedianRule, StoppingRule, rungs


class Judge:
    """Early stopping for all arms; `epochs[arm]` is how long a full trial of the arm is.

    Opening it refills every rule from the ledger, in the order in which the verdicts were given.
    """

    def __init__(self, settings: EarlyStopping, epochs: Mapping[str, int], ledger: Ledger, *, lower: bool) -> None:
        self.ledger, self._sign = ledger, -1.0 if lower else 1.0
        self._rules = {arm: rule for arm, total in epochs.items() if (rule := _rule(settings, total)) is not None}
        for arm, rule in self._rules.items():
            for verdict in ledger.of_arm(arm):
                rule.refill(self._signed(verdict))
        self._given = {(arm, v.number, v.epoch) for arm in self._rules for v in ledger.of_arm(arm)}

    def stops(self, arm: str, number: int, epoch: int, value: float, min_epochs: int = 0) -> bool:
        """Return whether search trial `number` of `arm` is to be stopped after `epoch`; the verdict is on disk by then.

        `value` is the objective at exactly that epoch, in its own unit; a value that is not finite is never judged.
        """
        rule = self._rules.get(arm)
        if rule is None or not math.isfinite(value):
            return False
        verdict = rule.report(number, epoch, self._sign * value, min_epochs)
        if verdict is None:
            return False
        if (arm, number, epoch) not in self._given:
            self.ledger.append(arm, self._signed(verdict))
            self._given.add((arm, number, epoch))
        return verdict.stop

    def _signed(self, verdict: Verdict) -> Verdict:
        if self._sign > 0:
            return verdict
        threshold = None if verdict.threshold is None else -verdict.threshold
        return dataclasses.replace(verdict, value=-verdict.value, threshold=threshold)


def judged_at(settings: EarlyStopping, epochs: int, min_epochs: int) -> Collection[int]:
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
