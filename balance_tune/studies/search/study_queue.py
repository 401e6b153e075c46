"""The queue of a study: which trial runs next, and how trials ended. Its state is in Optuna's storage.

Independent of Ray. A cell is an arm in one replicate. Its search goes on batch by batch (`search.parallel` trials):
what is proposed depends on the trials of earlier batches alone, so that the results of a study never depend on the
clock, on how many trials run at a time, or on where an earlier run of it was cut off.

Order: interrupted trials first; then the earliest replicate in which something can start: there the cell with the
fewest search trials, then select and confirm.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.protocol import selection
from balance_tune.studies.protocol.keys import TrialKey, seed_offset
from balance_tune.studies.protocol.reporting import epochs_of
from balance_tune.studies.search.live_trial import LiveTrial
from balance_tune.studies.search.proposals import CellSearch
from balance_tune.studies.storage import durable, trial_file
from balance_tune.studies.storage.files import HISTORY, STATE
from balance_tune.studies.storage.records import (
    CONFIRM,
    RETRIED,
    RETRY_OF,
    Phase,
    State,
    TrialRecord,
    cell_name,
    cell_of,
    read_records,
)
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import set_attrs, together
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.protocol.arms import Arm

Params = Mapping[str, Any]
Outcome = Literal["complete", "pruned", "failed", "lost", "preempted"]
MAX_PREEMPTED = 100  # times that a trial may lose its node before it counts as the cause
MAX_LOST = 3  # times that a trial's process may die before the trial has failed


@dataclass(frozen=True)
class Assignment:
    """A trial to be run now: its place and the plain configuration of its training."""

    key: TrialKey
    config: dict[str, Any]


@dataclass(frozen=True)
class CellProgress:
    """How far the trials of a cell are.

    Attributes:
        budget_trials: search trials that count in the budget, the running ones too.
        device_seconds: what the finished search trials took.
        first_live: number of the first search trial that has not ended; infinity where all have.
        live: whether any trial, of select and confirm too, has not ended.
    """

    budget_trials: int
    device_seconds: float
    first_live: float
    live: bool


class StudyQueue:
    """The trials of a study: which are due, which are running, and how each of them ended.

    Opening the queue recovers from whatever ended the last run: trials that the pruning log stopped are finished as
    PRUNED, interrupted ones are the first to run again.

    Args:
        config: the study.
        arms: the arms in the study's order.
        storage: Optuna's storage of the study.
        pruning_log: the decisions of early stopping.
        folder: the study folder.
        configure: `(arm, params, phase, number, seed, replicate)` -> the trial's training configuration with its
            "folder".
        retry_failed: run the trials that failed again, each under a new number at the same point and seed.
        warm: arm name -> points to try right after the default.
        on_trial_end: called with `(key, state, attrs)` for every trial that has ended, after Optuna knows of it.
    """

    def __init__(
        self,
        config: StudyConfig,
        arms: Sequence[Arm],
        storage: BaseStorage,
        pruning_log: PruningLog,
        folder: StudyFolder,
        *,
        configure: Callable[[Arm, Params, Phase, int, int, int], dict[str, Any]],
        retry_failed: bool = False,
        warm: Mapping[str, Sequence[Params]] | None = None,
        on_trial_end: Callable[[TrialKey, State, Mapping[str, Any]], None] = lambda key, state, attrs: None,
    ) -> None:
        self.config, self.pruning_log, self.folder = config, pruning_log, folder
        self.arms = {arm.name: arm for arm in arms}
        self.cells = {cell_name(arm.name, k): arm for k in range(config.replicates) for arm in arms}
        self.live: dict[TrialKey, LiveTrial] = {}
        self.pace: dict[str, tuple[float, int]] = {}  # dataset -> (seconds, epochs) of training seen in this run
        self._storage, self._configure, self._warm, self._on_trial_end = storage, configure, warm or {}, on_trial_end
        self._rule = selection.Rule.of(config.as_dict())
        self._again: deque[TrialKey] = deque()
        self._records: dict[str, dict[int, TrialRecord]] = {}  # name of the Optuna study -> number
        self._due: dict[str, list[selection.PendingTrial]] = {}
        self._progress: dict[str, CellProgress] = {}  # of the cells whose records have not changed since
        self._searches: dict[str, CellSearch] = {}
        self._seconds = 0.0
        self._studies: dict[str, optuna.Study] = {}
        self._study_ids: dict[str, int] = {}
        self._over: set[str] = set()  # cells in which nothing is due or live any more
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for name in self.cells:
            for study_name in (name, name + CONFIRM):
                self._studies[study_name] = self._open(study_name)
                self._study_ids[study_name] = storage.get_study_id_from_name(study_name)
                self._records[study_name] = {}
        self._retries: dict[TrialKey, TrialRecord] = {}
        self._recover()
        if retry_failed:
            self._retry()

    # next trial -------------------------------------------------------------------------------------------------------
    def next(self) -> Assignment | None:
        """Return the next trial to run; None while nothing can start: wait for the live ones, or else all is done."""
        if self._again:
            return self._resume(self._again.popleft())
        for cells in self._open_cells():
            ready = [cell for cell in cells if self.is_searching(cell) and self._batch_is_open(cell)]
            if ready:
                return self._propose(min(ready, key=lambda cell: len(self._records[cell])))
            due = [cell for cell in cells if self.due(cell)]
            if due:
                return self._select_or_confirm(min(due, key=lambda cell: len(self._records[cell + CONFIRM])))
        return None

    def is_finished(self) -> bool:
        """Return whether nothing is live and nothing is due."""
        return not (self.live or self._again) and not any(self._open_cells())

    def _open_cells(self) -> list[list[str]]:
        """Return the cells in which something is due or live, one list a replicate."""
        replicates: dict[int, list[str]] = {}
        for cell in self.cells:
            if cell in self._over:
                continue
            if not self._progress_of(cell).live and not self.is_searching(cell) and not self.due(cell):
                self._over.add(cell)
                self._searches.pop(cell, None)
                continue
            replicates.setdefault(cell_of(cell)[1], []).append(cell)
        return [replicates[k] for k in sorted(replicates)]

    def _batch_is_open(self, cell: str) -> bool:
        """Return whether the next search trial of a cell may be proposed: all of earlier batches have ended."""
        return self._progress_of(cell).first_live >= self._batch_start(len(self._records[cell]))

    def _batch_start(self, number: int) -> int:
        """Return the number of the first trial in the batch of a search trial."""
        return number - number % self.config.search.parallel

    def is_searching(self, cell: str) -> bool:
        """Return whether the cell's search budget allows another trial."""
        progress = self._progress_of(cell)
        if self.config.search.trials is not None:
            return progress.budget_trials < self.config.search.trials
        spent = progress.device_seconds + sum(run.device_seconds for run in self.live_of(cell))
        return spent < (self.config.search.device_seconds or 0.0)

    def due(self, cell: str) -> list[selection.PendingTrial]:
        """Return the cell's outstanding select and confirm trials; none before its search is over."""
        if self.is_searching(cell):
            return []
        if cell not in self._due:
            over = math.isinf(self._progress_of(cell).first_live)
            rule = self._rule.at(*cell_of(cell))
            self._due[cell] = selection.due(self.records(cell), rule) if over else []
        return self._due[cell]

    def _progress_of(self, cell: str) -> CellProgress:
        """Return how far a cell is; counted anew only after its records have changed, since every turn asks it."""
        if cell not in self._progress:
            records = self._records[cell].values()
            self._progress[cell] = CellProgress(
                budget_trials=sum(not r.superseded for r in records),
                device_seconds=sum(r.device_seconds for r in records if r.finished),
                first_live=min((r.number for r in records if not r.finished), default=math.inf),
                live=any(not r.finished for r in self.records(cell)),
            )
        return self._progress[cell]

    def _forget(self, cell: str) -> None:
        """Drop what was computed from the records of a cell."""
        self._progress.pop(cell, None)
        self._due.pop(cell, None)

    def _propose(self, cell: str) -> Assignment:
        for key, record in self._retries.items():
            if key.cell == cell and key.phase == "search":
                return self._again_at(key, record)
        number, arm = len(self._records[cell]), self.cells[cell]
        first = [arm.space.defaults(), *self._warm.get(arm.name, ())]
        if number < len(first):
            attrs = {"default": True, "sources": arm.space.sources()} if number == 0 else {"warm_start": True}
            return self._create(cell, "search", first[number], {"default": False, **attrs})
        trials = self._studies[cell].get_trials(deepcopy=False)[:number]
        if cell not in self._searches:
            self._searches[cell] = CellSearch(self.config, cell, arm.space)
        proposal = self._searches[cell].propose(trials, self._batch_start(number))
        return self._create(cell, "search", proposal.params, {"default": False}, proposal.system_attrs)

    def _select_or_confirm(self, cell: str) -> Assignment:
        due = self.due(cell)[0]
        attrs: dict[str, Any] = {"seed": due.seed, "default": due.default, "point": due.point}
        for key, record in self._retries.items():
            if (key.cell, key.phase, record.seed) == (cell, due.phase, due.seed) and record.params == due.params:
                return self._again_at(key, record)
        return self._create(cell, due.phase, due.params, attrs)

    def _again_at(self, key: TrialKey, record: TrialRecord) -> Assignment:
        """Start a trial that failed again: a new number, the same point and seed."""
        del self._retries[key]
        names = ("default", "sources", "warm_start", "point")
        attrs = {name: record.attrs[name] for name in names if name in record.attrs}
        return self._create(key.cell, key.phase, record.params, {**attrs, "seed": record.seed, RETRY_OF: key.number})

    def _create(
        self,
        cell: str,
        phase: Phase,
        params: Params,
        attrs: dict[str, Any],
        system_attrs: Mapping[str, Any] | None = None,
    ) -> Assignment:
        """Create a trial at a given point in one write, so that a crash leaves all of it or nothing."""
        study = self._studies[cell if phase == "search" else cell + CONFIRM]
        number = len(study.get_trials(deepcopy=False))
        arm_name, replicate = cell_of(cell)
        key = TrialKey(arm_name, phase, number, replicate)
        seed = attrs.get("seed", self._search_seed(key))
        config = self._configure(self.cells[cell], params, phase, number, seed, replicate)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self.cells[cell].space.distributions(),
            user_attrs={**attrs, "phase": phase, "seed": seed, **self._place(config)},
            system_attrs=dict(system_attrs or {}),
        )
        study.add_trial(trial)
        return self._start(key)

    def _start(self, key: TrialKey, epochs_trained: int = 0) -> Assignment:
        arm, phase, trial_id = self.arms[key.arm], key.phase, self._trial_id(key)
        trial = self._storage.get_trial(trial_id)
        seed = trial.user_attrs.get("seed", self._search_seed(key))
        config = self._configure(arm, trial.params, phase, trial.number, seed, key.replicate)
        place = self._place(config)
        attrs = {"phase": phase, "seed": seed, "default": False, **place, **trial.user_attrs}
        attrs["device"] = place["device"]  # another run of the study may have trained it elsewhere
        trial_file.write(self.folder / str(attrs["folder"]), config)
        old = trial.user_attrs
        new = {name: value for name, value in attrs.items() if name not in old or old[name] != value}
        set_attrs(self._storage, trial_id, new)
        min_epochs = arm.min_epochs(trial.params)
        reported = max(trial.intermediate_values, default=0)
        self.live[key] = LiveTrial(
            key,
            trial_id,
            self.folder / str(attrs["folder"]),
            min_epochs,
            lost=int(attrs.get("lost", 0)),
            preempted=int(attrs.get("preempted", 0)),
            repeated=int(attrs.get("repeated", 0)),
            reached=max(reported, epochs_trained),
        )
        self._record(key, "running", trial.params, attrs)
        return Assignment(key, {**config, "reported": reported} if reported else config)

    def _resume(self, key: TrialKey) -> Assignment:
        """Start an interrupted trial again under its number."""
        trial = self._storage.get_trial(self._trial_id(key))
        folder = self.folder / str(trial.user_attrs.get("folder", ""))
        epochs_trained = max((int(row["epoch"]) for row in history(folder)), default=0)
        return self._start(key, epochs_trained)

    # reports and ends -------------------------------------------------------------------------------------------------
    def report(self, key: TrialKey, report: Mapping[str, Any]) -> None:
        """Record the epochs in a report; epochs from before an interruption are read from the trial's history."""
        with together(self._storage):
            run, host = self.live.get(key), report.get("hostname", "")  # Ray Tune adds it
            if run is not None and host and run.host != host:
                run.host = host
                self._set(run, {"host": host})
            for row in epochs_of(report):
                self._take(key, row)

    def _take(self, key: TrialKey, row: Mapping[str, Any]) -> None:
        run = self.live[key]
        if row["epoch"] <= run.last_epoch and self.config.resources.workers > 1 and not run.draining:
            run.lost += 1  # Ray Train has started the worker group again
            self._set(run, {"lost": run.lost})
        run.last_epoch = int(row["epoch"])
        if row.get("draining") and not run.draining:  # a worker group that Ray Train will start elsewhere
            self.count_preemption(key)
        run.draining = bool(row.get("draining"))
        if row["epoch"] in run.curve:
            run.repeated += not row.get("replayed")
            return
        if not row.get("replayed"):
            run.repeated += max(0, run.reached - int(row["epoch"]) + 1)
            run.reached = 0
        n_known, objective = len(run.curve), self.config.objective
        if row["epoch"] > run.epochs + 1:  # trained before an interruption, or by workers whose reports were cut off
            for earlier in history(run.folder):
                if run.epochs < earlier["epoch"] < row["epoch"]:
                    run.take(earlier, objective)
        before = run.device_seconds
        run.take(row, objective)
        self._seconds += run.device_seconds - before
        for epoch in list(run.curve)[n_known:]:
            self._storage.set_trial_intermediate_value(run.trial_id, epoch, run.curve[epoch])
        dataset = self.arms[key.arm].dataset
        seconds, epochs = self.pace.get(dataset, (0.0, 0))
        self.pace[dataset] = (seconds + float(row.get("time/epoch_s", 0.0)), epochs + 1)

    def count_preemption(self, key: TrialKey) -> None:
        """Count that a live trial loses its node; the trial is not at fault."""
        run = self.live.get(key)
        if run is not None:
            run.preempted += 1
            self._set(run, {"preempted": run.preempted})

    def finish(self, key: TrialKey, outcome: Outcome, reason: str = "", *, by_device: bool = False) -> None:
        """Report to Optuna how a live trial ended; a lost one runs again, at most `MAX_LOST` times.

        One that lost its node (`count_preemption`), or was lost `by_device`, runs again in any case: nodes whose
        devices fail are left out.
        """
        run = self.live.pop(key)
        attrs: dict[str, Any] = {"epochs": run.epochs, "device_seconds": round(run.device_seconds, 6)}
        if run.repeated:
            attrs["repeated"] = run.repeated
        if outcome == "preempted":
            if run.preempted <= MAX_PREEMPTED:
                self._set(run, attrs | {"preempted_reason": reason})
                self._again.append(key)
                return
            outcome, reason = "failed", f"its node was lost {run.preempted} times, at last: {reason}"
        if outcome == "lost":
            run.lost += 1
            self._set(run, {"lost": run.lost, "lost_reason": reason, "repeated": run.repeated})
            if run.lost <= MAX_LOST or by_device:
                self._again.append(key)
                return
            outcome, reason = "failed", f"lost {run.lost} times, at last: {reason}"
        if outcome == "complete" and run.value is None:
            outcome, reason = "failed", f"`{self.config.objective}` was never a finite number"
        if run.best_epoch in run.metrics:
            attrs |= {"best_epoch": run.best_epoch, "metrics": run.metrics[run.best_epoch]}
        if run.micro_batch is not None:
            attrs["micro_batch"] = run.micro_batch
        if run.val_units is not None:
            attrs["val_units"] = run.val_units
        if outcome == "failed":
            attrs["reason"] = reason
        self._set(run, attrs)
        study = self._studies[key.study_name]  # no sampler is called: samplers learn from the storage
        if outcome == "complete":
            trial = study.tell(key.number, run.value)
        else:
            trial = study.tell(key.number, state=TrialState.PRUNED if outcome == "pruned" else TrialState.FAIL)
        self._record(key, outcome, trial.params, trial.user_attrs, trial.value if outcome != "failed" else None)
        run.folder.remove(STATE)
        self._on_trial_end(key, outcome, trial.user_attrs)

    def release(self, key: TrialKey) -> None:
        """Drop an interrupted trial from the live ones; it stays RUNNING, and the next run of the study resumes it."""
        self.live.pop(key, None)

    # readers ---------------------------------------------------------------------------------------------------------
    def records(self, cell: str) -> list[TrialRecord]:
        """Return the cell's trials that have begun."""
        return [*self._records[cell].values(), *self._records[cell + CONFIRM].values()]

    def cells_of(self, arm: str) -> list[str]:
        """Return the arm's cells, one a replicate."""
        return [cell_name(arm, replicate) for replicate in range(self.config.replicates)]

    def live_of(self, cell: str) -> list[LiveTrial]:
        """Return the cell's trials that are running."""
        return [run for key, run in self.live.items() if key.cell == cell]

    def confirmed_trials(self) -> list[tuple[TrialKey, TrialRecord]]:
        """Return the completed confirmation trials, which the sealed evaluation is about."""
        return [
            (TrialKey(r.arm, "confirm", r.number, r.replicate), r)
            for cell in self.cells
            for r in self._records[cell + CONFIRM].values()
            if r.phase == "confirm" and r.state == "complete"
        ]

    def device_seconds(self) -> float:
        """Return what the whole study has spent so far."""
        return self._seconds

    def _open(self, study_name: str) -> optuna.Study:
        return optuna.create_study(
            study_name=study_name,
            storage=self._storage,
            direction=Objective(self.config.objective).direction,
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )

    def _recover(self) -> None:
        interrupted: list[TrialKey] = []
        for record in read_records(self._storage):
            if record.cell not in self.cells or record.state == "waiting":
                continue
            key = TrialKey(record.arm, record.phase, record.number, record.replicate)
            self._records[key.study_name][key.number] = record
            self._forget(key.cell)
            self._seconds += record.device_seconds
            if record.state == "running" and record.params.keys() < self.arms[record.arm].space.distributions().keys():
                self._drop(key, record)
            elif record.state == "running":
                interrupted.append(key)
        order = {name: i for i, name in enumerate(self.cells)}
        for key in sorted(interrupted, key=lambda k: (k.phase != "search", k.number, order[k.cell])):
            stop = self.pruning_log.stop_of(key.cell, key.number) if key.phase == "search" else None
            if stop is None:
                self._again.append(key)
                continue
            self._resume(key)
            rows = [row for row in history(self.live[key].folder) if row["epoch"] <= stop.epoch]
            if len(rows) < stop.epoch:  # its node was lost before these epochs were on disk: they are trained again
                self.release(key)
                self._again.append(key)
                continue
            for row in rows:
                self._take(key, {**row, "replayed": True})
            self.finish(key, "pruned")

    def _drop(self, key: TrialKey, record: TrialRecord) -> None:
        """End a trial without a point, which an earlier version left when it was killed. Another takes its place."""
        trial_id = self._trial_id(key)
        attrs = {"phase": key.phase, "requeued_as": True, "reason": "the study was killed while its point was drawn"}
        set_attrs(self._storage, trial_id, attrs)
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        failure = replace(record, state="failed", attrs={**record.attrs, **attrs})
        self._records[key.study_name][key.number] = failure
        self._forget(key.cell)

    def _retry(self) -> None:
        """Remove failed trials from the budget; `next` then runs each of them again."""
        for study_name, records in self._records.items():
            for number, r in records.items():
                if r.state == "failed" and not r.superseded:
                    self._retries[TrialKey(r.arm, r.phase, number, r.replicate)] = r
                    records[number] = replace(r, attrs={**r.attrs, RETRIED: True})
            self._forget(study_name.removesuffix(CONFIRM))
        self._over.clear()

    def _record(
        self, key: TrialKey, state: State, params: Params, attrs: Mapping[str, Any], value: float | None = None
    ) -> None:
        dataset, _, method = key.arm.partition("/")
        self._records[key.study_name][key.number] = TrialRecord(
            arm=key.arm,
            dataset=dataset,
            method=method,
            phase=key.phase,
            number=key.number,
            state=state,
            params=dict(params),
            seed=attrs.get("seed"),
            value=value,
            attrs=dict(attrs),
            replicate=key.replicate,
        )
        self._forget(key.cell)

    def _set(self, run: LiveTrial, attrs: Mapping[str, Any]) -> None:
        set_attrs(self._storage, run.trial_id, attrs)

    def _trial_id(self, key: TrialKey) -> int:
        study_id = self._study_ids[key.study_name]
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, key.number)

    def _search_seed(self, key: TrialKey) -> int:
        index = key.replicate * selection.REPLICATE_SEEDS + seed_offset(key.arm) + key.number
        return selection.seed_of(self.config.seed, "search", index)

    def _place(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the attributes that say where a trial is trained: its folder in the study's, and on which device."""
        device = "cuda" if config.get("gpus") else "cpu"
        return {"folder": os.path.relpath(config["folder"], self.folder.path), "device": device}


def history(folder: StudyFolder) -> Iterator[dict[str, Any]]:
    """Yield the metrics of each epoch that the trial in `folder` has written down."""
    with contextlib.suppress(FileNotFoundError):
        yield from durable.json_lines(folder.download_file(HISTORY))
