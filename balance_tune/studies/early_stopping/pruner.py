"""Prunes the trials of each cell by a stopping rule of its own; every decision is in the pruning log."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from balance_tune.errors import UserError
from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.early_stopping.rules import StoppingRule, rule_of
from balance_tune.studies.wording import one_line
from balance_tune.tasks import Objective


class RuleError(UserError):
    """A stopping rule of the user's raised an exception, or returned no decision."""


class Pruner:
    """Early stopping of all cells; trials of different cells are never compared.

    It begins with the decisions of earlier runs of the study, which are in the pruning log.

    Args:
        settings: the study's early stopping.
        epochs: cell name -> length of a full trial.
        pruning_log: the decisions so far, in the order in which they were made.
        objective: what the values are of.
        parallel: size of a batch of trials (`search.parallel`). A trial is compared with those of earlier batches and
            with its own past, so that no decision depends on which trial of a batch gets somewhere first.

    Attributes:
        rule_failed: whether the rule has raised `RuleError`; the study must end then.

    Raises:
        RuleError: the rule does not take a decision of an earlier run.
    """

    def __init__(
        self,
        settings: EarlyStopping,
        epochs: Mapping[str, int],
        pruning_log: PruningLog,
        objective: Objective,
        parallel: int = 1,
    ) -> None:
        self.pruning_log, self._objective, self._kind = pruning_log, objective, settings.kind
        self.rule_failed = False
        self._rules = {cell: _Batches(rule_of(settings, total), parallel) for cell, total in epochs.items()}
        self._logged = {(cell, d.number, d.epoch) for cell in self._rules for d in pruning_log.of_arm(cell)}
        for cell, rule in self._rules.items():
            for decision in pruning_log.of_arm(cell):
                with self._rule_errors(cell, decision.number, decision.epoch):
                    rule.refill(self._signed(decision))

    def should_prune(self, cell: str, number: int, epoch: int, value: float, min_epochs: int = 0) -> bool:
        """Return whether to prune a search trial after an epoch; the decision is on disk by then.

        Args:
            cell: name of the trial's arm in its replicate.
            number: the trial's number in its cell.
            epoch: epochs that the trial has trained.
            value: the objective at exactly this epoch, in its own unit; a value that is not finite is never judged.
            min_epochs: the first epoch at which the trial may be pruned.

        Raises:
            RuleError: the rule has no decision. Nothing is logged, so the trial is judged again when the study resumes.
        """
        if cell not in self._rules or not math.isfinite(value):
            return False
        with self._rule_errors(cell, number, epoch):
            decision = self._rules[cell].report(number, epoch, self._objective.gain(value), min_epochs)
        if decision is None:
            return False
        if (cell, number, epoch) not in self._logged:
            self.pruning_log.append(cell, self._signed(decision))
            self._logged.add((cell, number, epoch))
        return decision.stop

    @contextmanager
    def _rule_errors(self, cell: str, number: int, epoch: int) -> Iterator[None]:
        """Turn an exception of the rule into one line."""
        try:
            yield
        except Exception as error:  # the rule may be the user's own code
            self.rule_failed = True
            what = one_line(f"{type(error).__name__}: {error}")[:300]
            raise RuleError(
                f"the early-stopping rule `{self._kind}` must judge epoch {epoch} of search trial {number} of {cell}, "
                f"but raised {what.rstrip('.')}; correct it."
            ) from error

    def _signed(self, decision: Decision) -> Decision:
        """Return a decision of the log as the rule sees it, or the other way round."""
        gain = self._objective.gain
        threshold = None if decision.threshold is None else gain(decision.threshold)
        return dataclasses.replace(decision, value=gain(decision.value), threshold=threshold)


class _Batches:
    """A stopping rule that sees the trials of a batch only once the next batch is judged, in the order of numbers.

    Args:
        rule: the rule.
        size: trials in a batch; of one, the rule sees every trial at once.
    """

    def __init__(self, rule: StoppingRule, size: int) -> None:
        self._rule, self._size = rule, size
        self._batch: dict[int, list[Decision]] = {}  # of the batch under way: number -> decisions so far
        self._of_trial: dict[int, StoppingRule] = {}  # the rule with this trial's own past

    def report(self, number: int, epoch: int, value: float, min_epochs: int) -> Decision | None:
        """Return the decision on a trial at an epoch, None where it is not judged there."""
        if self._size == 1:
            return self._rule.report(number, epoch, value, min_epochs)
        decision = self._rule_of(number).report(number, epoch, value, min_epochs)
        own = self._batch.setdefault(number, [])
        if decision is not None and decision not in own:
            own.append(decision)
        return decision

    def refill(self, decision: Decision) -> None:
        """Enter a decision of an earlier run of the study."""
        if self._size == 1:
            self._rule.refill(decision)
            return
        self._rule_of(decision.number).refill(decision)
        self._batch.setdefault(decision.number, []).append(decision)

    def _rule_of(self, number: int) -> StoppingRule:
        if any(number // self._size > other // self._size for other in self._batch):
            for _, decisions in sorted(self._batch.items()):
                for decision in decisions:
                    self._rule.refill(decision)
            self._batch.clear()
            self._of_trial.clear()
        if number not in self._of_trial:
            self._of_trial[number] = copy.deepcopy(self._rule)
        return self._of_trial[number]
