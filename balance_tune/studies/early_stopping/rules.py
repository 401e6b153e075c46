"""Early stopping as pure rules: told a trial's value at an epoch, they say whether the trial goes on."""

from __future__ import annotations

import bisect
import math
import statistics
from typing import Protocol

from balance_tune.studies.early_stopping.pruning_log import Decision


class StoppingRule(Protocol):
    """One arm's early stopping; larger values are better.

    A rule is a function of the reports so far in the order of their arrival: the same reports in the same order give
    the same decisions. A report made again (a resumed trial repeats epochs) gets the decision it got before.
    """

    def report(self, number: int, epoch: int, value: float, min_epochs: int = 0) -> Decision | None:
        """Return the decision on trial `number` after `epoch` epochs, or None where it is not judged at that epoch."""
        ...

    def refill(self, decision: Decision) -> None:
        """Take over a decision of an earlier run of the study."""
        ...


def rungs(epochs: int, grace: int, reduction: float) -> tuple[int, ...]:
    """Return the epochs at which ASHA judges: grace, grace * reduction, ... below the last epoch."""
    found: list[int] = []
    rung = float(grace)
    while round(rung) < epochs:
        found.append(round(rung))
        rung *= reduction
    return tuple(found)


class Asha:
    """Asynchronous successive halving of the stopping kind.

    A trial's value enters a rung only at exactly the rung's epoch. With n values in the rung, the new one included, the
    trial goes on if it is among the best ceil(n / reduction) of them; a tie with the last of these goes on. (Rounded
    up: a rung sees its values one by one, and the best of a few early ones are a poor guess at the best of all.)
    A rung below the trial's `min_epochs` does not exist for it: the value is neither judged nor entered.
    """

    def __init__(self, epochs: int, *, grace: int, reduction: float) -> None:
        self.reduction = reduction
        self._rungs: dict[int, list[float]] = {rung: [] for rung in rungs(epochs, grace, reduction)}
        self._given: dict[tuple[int, int], Decision] = {}

    def report(self, number: int, epoch: int, value: float, min_epochs: int = 0) -> Decision | None:
        if (number, epoch) in self._given:
            return self._given[number, epoch]
        values = self._rungs.get(epoch)
        if values is None or epoch < min_epochs:
            return None
        bisect.insort(values, value)
        threshold = values[-math.ceil(len(values) / self.reduction)]
        rank = len(values) - bisect.bisect_right(values, value) + 1
        known = threshold if len(values) > 1 else None
        decision = Decision(number, epoch, value, known, rank, len(values), stop=value < threshold)
        self._given[number, epoch] = decision
        return decision

    def refill(self, decision: Decision) -> None:
        self._given[decision.number, decision.epoch] = decision
        if decision.epoch in self._rungs:
            bisect.insort(self._rungs[decision.epoch], decision.value)


class MedianRule:
    """The median stopping rule (Golovin et al., 2017, "Google Vizier").

    From epoch `grace` on (and `min_epochs`), a trial is stopped when its best value so far is below the median of
    the other trials' running averages up to the same epoch; at least `least` others must have got there.
    """

    def __init__(self, epochs: int, *, grace: int, least: int = 4) -> None:
        self.epochs, self.grace, self.least = epochs, grace, least
        self._averages: dict[int, dict[int, float]] = {}  # epoch -> number -> running average
        self._values: dict[int, dict[int, float]] = {}  # number -> epoch -> value
        self._given: dict[tuple[int, int], Decision] = {}

    def report(self, number: int, epoch: int, value: float, min_epochs: int = 0) -> Decision | None:
        if (number, epoch) in self._given:
            return self._given[number, epoch]
        if epoch < max(self.grace, min_epochs) or epoch >= self.epochs:
            return None
        best = self._enter(number, epoch, value)
        others = [average for other, average in self._averages[epoch].items() if other != number]
        threshold = statistics.median(others) if len(others) >= self.least else None
        rank = 1 + sum(average > best for average in others)
        stop = threshold is not None and best < threshold
        decision = Decision(number, epoch, value, threshold, rank, len(others) + 1, stop)
        self._given[number, epoch] = decision
        return decision

    def refill(self, decision: Decision) -> None:
        self._given[decision.number, decision.epoch] = decision
        self._enter(decision.number, decision.epoch, decision.value)

    def _enter(self, number: int, epoch: int, value: float) -> float:
        values = self._values.setdefault(number, {})
        values[epoch] = value
        self._averages.setdefault(epoch, {})[number] = statistics.fmean(values.values())
        return max(values.values())
