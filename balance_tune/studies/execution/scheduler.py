"""Ray Tune's scheduler for a study: stops trials that the arm's pruner prunes, and ends trials that do not report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.util import placement_group_table

from balance_tune.studies.cluster.preemption import node_lost
from balance_tune.studies.early_stopping.pruner import RuleError
from balance_tune.studies.private_apis import actor_of
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.storage.db_retry import AWAY
from balance_tune.timeouts import seconds

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

    from balance_tune.studies.cluster.devices import Devices
    from balance_tune.studies.cluster.resource_timeout import ResourceTimeout
    from balance_tune.studies.early_stopping.pruner import Pruner
    from balance_tune.studies.search.study_queue import StudyQueue

SILENCE = seconds("BALANCE_TUNE_SILENCE_S")
"""Seconds without a report after which a trial counts as hung; or 20 times its longest epoch, if that is longer."""

LOOK_EVERY = 2.0  # seconds between two questions to Ray
ERROR = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b")


class ArmScheduler(FIFOScheduler):  # type: ignore[misc]  # ray is not typed
    """Prunes search trials by their arm's pruner, and ends the process of a hung trial, which then counts as lost.

    `stopped` holds the ids of the trials that early stopping ended, `errors` the messages of those that failed,
    `preempted` those whose node was lost. With `groups` a running trial may still wait for its workers; there may be
    `several` nodes. `halted` is the reason why no trial can go on (a full disk, say), or empty.
    """

    def __init__(
        self,
        queue: StudyQueue,
        pruner: Pruner,
        *,
        waiting: ResourceTimeout | None = None,
        devices: Devices | None = None,
        groups: bool = False,
        several: bool = False,
        silence: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.stopped: set[str] = set()
        self.errors: dict[str, str] = {}
        self.preempted: set[str] = set()
        self.halted = ""
        self._queue, self._pruner, self._clock = queue, pruner, clock
        self._waiting, self._groups, self._several = waiting, groups, several
        self._devices = devices
        self._reported: set[str] = set()
        self._last_answer: tuple[float, bool] | None = None
        self._silence = SILENCE if silence is None else silence
        self._trials: dict[str, Trial] = {}
        self._last_reports: dict[str, tuple[float, float]] = {}  # trial id -> (when last, longest silence so far)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy for its own restore, which a study never uses

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        self._trials[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        now = self._clock()
        self._reported.add(trial.trial_id)
        self.preempted.discard(trial.trial_id)  # Tune itself started it again
        last, longest = self._last_reports.get(trial.trial_id, (now, 0.0))
        self._last_reports[trial.trial_id] = (now, max(longest, now - last))
        key = key_of(trial.config)
        run = self._queue.live.get(key)
        if run is None or key.phase != "search" or result.get("state") != "running":
            return str(TrialScheduler.CONTINUE)
        value = float(result[self._queue.config.objective])
        with self.halting():
            if self._pruner.should_prune(key.cell, key.number, int(result["epoch"]), value, run.min_epochs):
                self.stopped.add(trial.trial_id)
                return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        self.errors[trial.trial_id] = _last_words(trial) + self.errors.get(trial.trial_id, "")
        self._reported.discard(trial.trial_id)
        self._last_reports.pop(trial.trial_id, None)
        if node_lost(_failure_text(trial), self._several):
            self.preempted.add(trial.trial_id)
            with self.halting():
                self._queue.count_preemption(key_of(trial.config))

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """End hung trials; return None, so that Tune chooses which pending trial starts first."""
        now = self._clock()
        for trial_id, trial in list(self._trials.items()):
            if trial.status in (Trial.TERMINATED, Trial.ERROR):
                self._forget(trial_id)
            elif trial.status == Trial.RUNNING:
                last, longest = self._last_reports.setdefault(trial_id, (now, 0.0))
                if self._groups and trial_id not in self._reported and self._groups_wait():
                    self._last_reports[trial_id] = (now, longest)  # it is not silent, it has no workers yet
                    continue
                actor = actor_of(trial)
                if now - last > max(self._silence, 20 * longest) and actor is not None:
                    self.errors[trial_id] = f" (ended by us: no report for {now - last:.0f} s)"
                    self._last_reports[trial_id] = (now, longest)
                    ray.kill(actor)
        if self._waiting is not None:
            self.halted = self.halted or self._waiting.look(self._is_starved())
        return None

    def _is_starved(self) -> bool:
        """Return whether trials are due and none of them has its resources."""
        states = [trial.status for trial in self._trials.values()]
        if Trial.RUNNING not in states:
            return Trial.PENDING in states
        return self._groups and not self._reported and self._groups_wait()

    def _groups_wait(self) -> bool:
        """Return whether workers of some trial wait for their places; Ray is asked once in a while."""
        now = self._clock()
        if self._last_answer is None or now - self._last_answer[0] >= LOOK_EVERY:
            states = [group["state"] for group in placement_group_table().values()]
            self._last_answer = (now, any(state in ("PENDING", "RESCHEDULING") for state in states))
        return self._last_answer[1]

    @contextmanager
    def halting(self) -> Iterator[None]:
        """Halt the study where it cannot write, or where its early-stopping rule raises; running trials stay open."""
        try:
            yield
        except RuleError as error:
            self.halted = self.halted or str(error).rstrip(".")
        except OSError as error:
            self.halted = self.halted or f"the study's folder cannot be written: {error}"
        except AWAY:
            self.halted = self.halted or "the database that holds the trials does not answer any more"

    def device_failed(self, reason: str) -> bool:
        """Return whether a trial was lost by its node's device; halt the study where no other is left."""
        if self._devices is None or not self._devices.record_failure(reason):
            return False
        self.halted = self.halted or self._devices.none_left()
        return True

    def gave_up(self, trial_id: str) -> bool:
        """Return whether Tune gave a trial up without telling the searcher (an actor that could not be used again)."""
        trial = self._trials.get(trial_id)
        return trial is not None and trial.status == Trial.ERROR

    def _forget(self, trial_id: str) -> None:
        """Drop an ended trial and the statistics that Tune would keep of it (100 MB in 3,000 trials)."""
        self._last_reports.pop(trial_id, None)
        self._reported.discard(trial_id)
        trial = self._trials[trial_id]
        if trial.status == Trial.TERMINATED:
            del self._trials[trial_id]
            for name in ("metric_analysis", "metric_n_steps"):
                getattr(getattr(trial, "run_metadata", None), name, {}).clear()
            trial.evaluated_params = {}


def key_of(config: Mapping[str, Any]) -> TrialKey:
    """Return the place of a trial from its configuration."""
    return TrialKey(config["arm"], config["phase"], config["number"], config.get("replicate", 0))


def _failure_text(trial: Trial) -> str:
    """Return Ray's text about the last failure of a trial."""
    try:
        return Path(trial.error_file).read_text().rpartition("Failure # ")[2]
    except (OSError, TypeError):
        return ""


def _last_words(trial: Trial) -> str:
    """Return why a trial failed, in one line: its exception, else Ray's text."""
    try:
        text_lines = Path(trial.error_file).read_text().splitlines()[1:]  # the first line is a count and a time
    except (OSError, TypeError):
        return "its process died"
    lines = [line.strip() for line in text_lines if line.strip()]
    errors = [line for line in text_lines if ERROR.match(line)]
    return (errors[-1:] or lines[:1] or ["its process died"])[0][:500]
