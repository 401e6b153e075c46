"""The study's queue as Ray Tune sees it: one searcher that serves all arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.reporting import epochs_of
from balance_tune.studies.search.study_queue import StudyQueue

if TYPE_CHECKING:
    from balance_tune.studies.execution.scheduler import ArmScheduler

ENDS = ("complete", "failed")


class StudySearcher(Searcher):  # type: ignore[misc]  # ray is not typed
    """Gives Tune the queue's trials, at most `slots` at a time, and reports to the queue how each ended.

    `interrupted()` is true while the study is being stopped: trials that fail then are not at fault.
    """

    def __init__(
        self,
        queue: StudyQueue,
        scheduler: ArmScheduler,
        slots: int,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._queue, self._scheduler, self._slots, self._interrupted = queue, scheduler, slots, interrupted
        self._keys: dict[str, TrialKey] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy for its own restore, which a study never uses

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a trial's configuration; None: wait for the live ones; FINISHED: nothing will ever come."""
        for broken_key in [broken_key for broken_key in self._keys if self._scheduler.gave_up(broken_key)]:
            self.on_trial_complete(broken_key, error=True)
        assignment = None
        if not self._scheduler.halted:
            if len(self._queue.live) >= self._slots:
                return None
            with self._scheduler.halting():
                assignment = self._queue.next()
        if assignment is None:
            return None if self._queue.live and not self._scheduler.halted else str(Searcher.FINISHED)
        self._keys[trial_id] = assignment.key
        return assignment.config

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        key = self._keys.get(trial_id)
        if key is not None and not self._scheduler.halted:  # else the trial reports it again when it is resumed
            with self._scheduler.halting():
                self._queue.report(key, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        key = self._keys.pop(trial_id, None)
        if key is None:
            return
        with self._scheduler.halting():
            if not error:
                self._end(key, trial_id, result or {})
            elif self._interrupted():
                self._queue.release(key)
            elif trial_id in self._scheduler.preempted:
                self._scheduler.preempted.discard(trial_id)
                self._queue.finish(key, "preempted", self._scheduler.errors.pop(trial_id, "its node is gone"))
            else:
                self._lost(key, self._scheduler.errors.pop(trial_id, "its process died"))

    def _end(self, key: TrialKey, trial_id: str, result: Mapping[str, Any]) -> None:
        state, reason = result.get("state"), str(result.get("reason", ""))
        if any(row["epoch"] not in self._queue.live[key].curve for row in epochs_of(result)):
            self._queue.report(key, result)  # Tune passes the report that stopped a trial only here, any other twice
        if trial_id in self._scheduler.stopped:
            self._scheduler.stopped.discard(trial_id)
            self._queue.finish(key, "pruned")
        elif state == "lost":
            self._lost(key, reason)
        elif state in ENDS:
            self._queue.finish(key, state, reason)
        elif state == "halt":
            self._scheduler.halted = reason
            self._queue.release(key)
        else:
            self._queue.finish(key, "lost", "it ended without a result")

    def _lost(self, key: TrialKey, reason: str) -> None:
        self._queue.finish(key, "lost", reason, by_device=self._scheduler.device_failed(reason))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the truth is in Optuna's storage and in the pruning log."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
