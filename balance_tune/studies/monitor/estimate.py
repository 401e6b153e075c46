"""Estimates how far a study is and how much time is left, for the console and `status`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balance_tune.studies.protocol import selection
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.search.study_queue import StudyQueue


@dataclass(frozen=True)
class ArmState:
    """How far one arm is, in all replicates together.

    Attributes:
        replicates: (ended, all) replicates of the arm.
        counts: trials by state: complete, pruned, failed, running.
        expected: how many trials the arm will have, at most.
        search_val: the best objective of its completed search trials so far.
        epochs_left: estimate of the epochs still to be trained.
        seconds_an_epoch: how long an epoch of its dataset takes; None before one was seen.
    """

    arm: str
    counts: Mapping[str, int]
    expected: int
    search_val: float | None
    epochs_left: float
    seconds_an_epoch: float | None
    replicates: tuple[int, int] = (0, 1)

    @property
    def done(self) -> int:
        """The number of trials that have ended."""
        return sum(n for state, n in self.counts.items() if state != "running")


def outlook(queue: StudyQueue) -> list[ArmState]:
    """Return the state of every arm."""
    return [_arm_state(queue, name) for name in queue.arms]


def seconds_left(states: list[ArmState], slots: int) -> float | None:
    """Return the expected wall time until the last trial with so many at a time; None while no epoch has been seen."""
    durations = [s.seconds_an_epoch for s in states if s.seconds_an_epoch is not None]
    if not durations:
        return None
    usual = sum(durations) / len(durations)
    return sum(s.epochs_left * (s.seconds_an_epoch or usual) for s in states) / max(1, slots)


def _arm_state(queue: StudyQueue, name: str) -> ArmState:
    arm, objective = queue.arms[name], Objective(queue.config.objective)
    counts: Counter[str] = Counter()
    values: list[float] = []
    expected, left, ended = 0, 0.0, 0
    for cell in queue.cells_of(name):
        records, running = queue.records(cell), queue.live_of(cell)
        finished = [r for r in records if r.finished]
        search_left, later_left = _trials_left(queue, cell, records)
        epochs = arm.epochs(arm.space.defaults())
        in_search = [r for r in finished if r.phase == "search"]
        usual = sum(r.epochs for r in in_search) / len(in_search) if in_search else 0.6 * epochs
        left += max(0.0, search_left * usual + later_left * epochs - sum(run.epochs for run in running))
        expected += len(finished) + math.ceil(search_left) + later_left
        counts.update(r.state for r in finished)
        counts["running"] += len(running)
        values += [r.value for r in in_search if r.state == "complete" and r.value is not None]
        ended += not (search_left or later_left or running)
    seconds, epochs_timed = queue.pace.get(arm.dataset, (0.0, 0))
    return ArmState(
        name,
        dict(counts),
        expected,
        objective.best(values),
        left,
        seconds / epochs_timed if epochs_timed else None,
        (ended, queue.config.replicates),
    )


def _trials_left(queue: StudyQueue, cell: str, records: list[TrialRecord]) -> tuple[float, int]:
    """Return how many search trials, and how many select and confirm trials, have not ended (the latter at most)."""
    in_search = [r for r in records if r.phase == "search"]
    ended = [r for r in in_search if r.finished]
    search, budget = queue.config.search, selection.Rule.of(queue.config.as_dict())
    if search.trials is not None:
        search_left = float(max(search.trials, len(in_search)) - len(ended))
    else:
        seconds = sum(r.device_seconds for r in ended)
        share = seconds / (search.device_seconds or math.inf)
        search_left = len(ended) * max(0.0, 1 / share - 1) if share > 0 else 20.0
    later = [r for r in records if r.phase != "search"]
    due = queue.due(cell)
    confirms = any(r.phase == "confirm" for r in later) or any(d.phase == "confirm" for d in due)
    if confirms and not queue.is_searching(cell):
        return search_left, len(due) + sum(not r.finished for r in later)
    most = selection.select_trainings(budget.points, budget.select_seeds) + budget.confirm_seeds + budget.default_seeds
    return search_left, max(0, most - sum(r.finished for r in later))
