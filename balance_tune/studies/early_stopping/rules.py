"""Rules of early stopping: which search trials are pruned, at which epochs.

A rule of your own is a subclass of `StoppingRule` that a study names by its import path, as in
`search.early_stopping.kind: my_package.rules:Patience`, or by its `name` where an installed package announces it in the
entry-point group `balance_tune.stopping_rules`.
"""

from __future__ import annotations

import bisect
import inspect
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from balance_tune.errors import UserError
from balance_tune.registry import import_path, stopping_rules
from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Decision
from balance_tune.studies.wording import shown


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials are judged: how many get there and how many go on, as expected of equal trials."""

    epoch: int
    judged: float
    survivors: float


@dataclass(frozen=True)
class Expectation:
    """What a rule is expected to do to trials of which none is better than the others.

    Attributes:
        epochs: epochs that all trials together train.
        rungs: the rungs with the trials at each; empty where the rule has none.
    """

    epochs: float
    rungs: tuple[Rung, ...] = ()


class StoppingRule(ABC):
    """Early stopping of one arm. Larger values are better: the pruner negates objectives where smaller is better.

    Decisions depend on the reported values and their order only, so that a study that is resumed, or run again with one
    trial at a time, prunes the same trials.

    Args:
        epochs: length of a full trial of the arm.

    The constructor may take `grace` and `reduction`, which are the study's, and names of its own, which
    `search.early_stopping.settings` sets.
    """

    name: ClassVar[str]
    """What a study file calls the rule; a rule that is named by its import path needs none."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._decisions: dict[tuple[int, int], Decision] = {}

    @abstractmethod
    def rung_epochs(self, min_epochs: int = 0) -> Collection[int]:
        """Return the epochs, below the last, after which a trial is judged.

        The trial reports these epochs at once; others it may report several at a time.

        Args:
            min_epochs: finished epochs before which the trial must not be pruned.
        """

    @abstractmethod
    def decide(self, number: int, epoch: int, value: float) -> Decision:
        """Take a new value and decide on it.

        Args:
            number: the trial's number in its arm.
            epoch: one of `rung_epochs`.
            value: the objective at exactly this epoch; larger is better.

        Returns:
            The decision: whether the trial stops, and what it was compared with.
        """

    @abstractmethod
    def enter(self, number: int, epoch: int, value: float) -> None:
        """Take a value of an earlier run of the study, whose decision is known.

        Args:
            number: the trial's number in its arm.
            epoch: how many epochs it has finished.
            value: the objective at this epoch; larger is better.
        """

    @abstractmethod
    def expect(self, trials: int, min_epochs: int = 0) -> Expectation:
        """Return what the rule is expected to do to equal trials; `balance-tune plan` shows it.

        Args:
            trials: how many there are.
            min_epochs: as in `rung_epochs`, of all of them.
        """

    def report(self, number: int, epoch: int, value: float, min_epochs: int = 0) -> Decision | None:
        """Return the decision on a trial, or None where it is not judged at this epoch.

        A report that is repeated (a resumed trial repeats epochs) gets the decision that it got before.

        Args:
            number: the trial's number in its arm.
            epoch: how many epochs it has finished.
            value: the objective at this epoch; larger is better.
            min_epochs: as in `rung_epochs`.

        Raises:
            TypeError: `decide` returned something else than a `Decision`.
        """
        if (number, epoch) not in self._decisions:
            if epoch not in self.rung_epochs(min_epochs):
                return None
            decision = self.decide(number, epoch, value)
            if not isinstance(decision, Decision):
                raise TypeError(f"`decide` must return a `Decision`, but returned {shown(decision)}")
            self._decisions[number, epoch] = decision
        return self._decisions[number, epoch]

    def refill(self, decision: Decision) -> None:
        """Take over a decision of an earlier run of the study.

        Args:
            decision: one that `report` returned.
        """
        self._decisions[decision.number, decision.epoch] = decision
        self.enter(decision.number, decision.epoch, decision.value)


class NoStopping(StoppingRule):
    """Every trial runs to its end."""

    name = "none"

    def rung_epochs(self, min_epochs: int = 0) -> Collection[int]:
        return ()

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        raise AssertionError("there are no rungs")

    def enter(self, number: int, epoch: int, value: float) -> None:
        pass

    def expect(self, trials: int, min_epochs: int = 0) -> Expectation:
        return Expectation(float(trials * self.epochs))


class Asha(StoppingRule):
    """Asynchronous successive halving of the stopping kind (Li et al., MLSys 2020).

    Rungs lie at grace, grace * reduction, ... below the last epoch. A value enters a rung only at exactly the rung's
    epoch. With n values in the rung, the new one included, the trial goes on if it is among the best
    ceil(n / reduction) of them, ties included. (Rounded up: a rung gets its values one by one, and the best of a few
    early values are a poor estimate of the best of all.)
    """

    name = "asha"

    def __init__(self, epochs: int, *, grace: int, reduction: float) -> None:
        super().__init__(epochs)
        self.reduction = reduction
        self._rungs: dict[int, list[float]] = {}
        rung = float(grace)
        while round(rung) < epochs:
            self._rungs[round(rung)] = []
            rung *= reduction

    def rung_epochs(self, min_epochs: int = 0) -> Collection[int]:
        return [rung for rung in self._rungs if rung >= min_epochs]

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        self.enter(number, epoch, value)
        values = self._rungs[epoch]
        threshold = values[-math.ceil(len(values) / self.reduction)]
        rank = len(values) - bisect.bisect_right(values, value) + 1
        alone = len(values) == 1
        return Decision(number, epoch, value, None if alone else threshold, rank, len(values), stop=value < threshold)

    def enter(self, number: int, epoch: int, value: float) -> None:
        if epoch in self._rungs:
            bisect.insort(self._rungs[epoch], value)

    def expect(self, trials: int, min_epochs: int = 0) -> Expectation:
        steps: list[Rung] = []
        going, total, before = float(trials), 0.0, 0
        for epoch in self.rung_epochs(min_epochs):
            after = self._survivors(going)
            total += going * (epoch - before)
            steps.append(Rung(epoch, round(going, 1), round(after, 1)))
            going, before = after, epoch
        return Expectation(total + going * (self.epochs - before), tuple(steps))

    def _survivors(self, trials: float) -> float:
        """Return how many of `trials` a rung is expected to let pass.

        The n-th to arrive passes if it is among the best ceil(n / reduction) of n. It is assumed that the order of
        arrival is independent of the values.
        """
        whole = math.floor(trials)
        survivors = sum(math.ceil(n / self.reduction) / n for n in range(1, whole + 1))
        following = whole + 1
        return survivors + (trials - whole) * math.ceil(following / self.reduction) / following


class MedianRule(StoppingRule):
    """The median stopping rule (Golovin et al., 2017, "Google Vizier").

    From epoch `grace` on, a trial is pruned when its best value so far is below the median of the other trials' running
    averages up to the same epoch; at least `least` others must have got there.
    """

    name = "median"

    def __init__(self, epochs: int, *, grace: int, least: int = 4) -> None:
        super().__init__(epochs)
        self.grace, self.least = grace, least
        self._averages: dict[int, dict[int, float]] = {}  # epoch -> number -> running average
        self._values: dict[int, dict[int, float]] = {}  # number -> epoch -> value

    def rung_epochs(self, min_epochs: int = 0) -> Collection[int]:
        return range(max(self.grace, min_epochs), self.epochs)

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        self.enter(number, epoch, value)
        best = max(self._values[number].values())
        others = [average for other, average in self._averages[epoch].items() if other != number]
        threshold = statistics.median(others) if len(others) >= self.least else None
        rank = 1 + sum(average > best for average in others)
        stop = threshold is not None and best < threshold
        return Decision(number, epoch, value, threshold, rank, len(others) + 1, stop)

    def enter(self, number: int, epoch: int, value: float) -> None:
        values = self._values.setdefault(number, {})
        values[epoch] = value
        self._averages.setdefault(epoch, {})[number] = statistics.fmean(values.values())

    def expect(self, trials: int, min_epochs: int = 0) -> Expectation:
        """Return the expectation if half of the trials after the first few are pruned at their first chance."""
        first = min(max(self.grace, min_epochs), self.epochs)
        pruned = 0.5 * max(0, trials - self.least)
        return Expectation((trials - pruned) * self.epochs + pruned * first)


def rule_class(kind: str) -> type[StoppingRule]:
    """Return the rule that a study file names: a registered name, or an import path `package.module:Name`.

    Raises:
        UserError: there is no such rule.
    """
    cls = import_path("an early-stopping rule", kind) if ":" in kind else stopping_rules().get(kind)
    if not (isinstance(cls, type) and issubclass(cls, StoppingRule)):
        raise UserError(f"`search.early_stopping.kind` {shown(kind)} must be a subclass of `StoppingRule`, but is not.")
    return cls


def rule_of(settings: EarlyStopping, epochs: int) -> StoppingRule:
    """Return the rule of a study for an arm whose full trials have so many epochs.

    Raises:
        UserError: there is no such rule, or it does not take its settings.
    """
    cls = rule_class(settings.kind)
    names = list(inspect.signature(cls).parameters)[1:]
    unknown = [name for name in settings.settings if name not in names]
    if unknown:
        own = [name for name in names if name not in ("grace", "reduction")]
        raise UserError(
            f"`search.early_stopping.settings` must be of `{settings.kind}`, but {', '.join(unknown)} is not; "
            f"it has {', '.join(own) or 'none'}."
        )
    arguments = {"grace": settings.grace, "reduction": settings.reduction, **settings.settings}
    try:
        rule = cls(epochs, **{name: value for name, value in arguments.items() if name in names})
        rule.rung_epochs()
        return rule
    except Exception as error:  # the rule may be the user's own code
        raise UserError(f"`search.early_stopping.settings` must suit `{settings.kind}`, but: {error}") from error
