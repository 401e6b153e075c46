"""What a study runs next, and what became of it: one queue over all arms, told by and kept in Optuna's storage.

Knows nothing of Ray. With one trial at a time the order depends on the study alone, never on the clock or on where an
earlier run of it was cut off: interrupted trials first, then the arm with the fewest search trials, then select and
confirm.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from balance_tune.studies import confirm, durable
from balance_tune.studies.config import StudyConfig
from balance_tune.studies.ledger import Ledger
from balance_tune.studies.records import CONFIRM, Phase, TrialRecord, lower_is_better, read_records
from balance_tune.studies.samplers import sampler_for

if TYPE_CHECKING:
    from balance_tune.studies.arms import Arm

Params = Mapping[str, Any]
Outcome = Literal["complete", "pruned", "failed", "lost"]
MAX_LOST = 3  # times a trial is run again because its process died, before that counts as its failure
METRICS = ("val/", "train/", "modulation/", "time/")


class TrialKey(NamedTuple):
    """A trial's place in its study; `number` counts search trials, and select and confirm trials together."""

    arm: str
    phase: Phase
    number: int

    @property
    def study_name(self) -> str:
        return self.arm if self.phase == "search" else self.arm + CONFIRM


@dataclass(frozen=True)
class Assignment:
    """A trial to be run now: its place and the plain configuration of its training."""

    key: TrialKey
    config: dict[str, Any]


@dataclass
class Running:
    """A trial under way, as far as it has reported."""

    key: TrialKey
    trial_id: int
    params: Params
    seed: int
    folder: Path
    settled_after: int = 0
    lost: int = 0
    epochs: int = 0
    device_seconds: float = 0.0
    best_epoch: int | None = None
    curve: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def take(self, row: Mapping[str, Any], objective: str) -> None:
        """Take the metrics of one epoch; "best_epoch" says of which epoch the trial keeps the weights so far."""
        self.epochs = int(row["epoch"])
        self.device_seconds = float(row.get("device_seconds", 0.0))
        self.best_epoch = int(row["best_epoch"])
        self.curve[self.epochs] = float(row[objective])
        self.metrics[self.epochs] = {
            name: float(value)
            for name, value in row.items()
            if name.startswith(METRICS) and isinstance(value, int | float)
        }

    @property
    def value(self) -> float | None:
        """The objective at the best epoch, if there is one and it is a number."""
        value = math.nan if self.best_epoch is None else self.curve.get(self.best_epoch, math.nan)
        return value if math.isfinite(value) else None


class StudyQueue:
    """The trials of a study, from its storage on: what is due, what runs, what it came to.

    `configure(arm, params, phase, number, seed)` gives a trial's training configuration with its "folder";
    `warm[arm name]` are points to try right after the default. Opening the queue recovers from whatever ended the last
    run: trials that the ledger says were stopped are told so, interrupted ones come first.
    """

    def __init__(
        self,
        config: StudyConfig,
        arms: Sequence[Arm],
        storage: BaseStorage,
        ledger: Ledger,
        folder: Path,
        configure: Callable[[Arm, Params, Phase, int, int], dict[str, Any]],
        warm: Mapping[str, Sequence[Params]] | None = None,
    ) -> None:
        self.config, self.storage, self.ledger, self.folder = config, storage, ledger, folder
        self.arms = {arm.name: arm for arm in arms}
        self.live: dict[TrialKey, Running] = {}
        self._configure, self._warm = configure, warm or {}
        self._rule = confirm.Rule.of(config.as_dict())
        self._lower = lower_is_better(config.objective)
        self._again: deque[TrialKey] = deque()
        self._records: dict[str, dict[TrialKey, TrialRecord]] = {name: {} for name in self.arms}
        self._due: dict[str, list[confirm.Due]] = {}
        self.pace: dict[str, tuple[float, int]] = {}  # dataset -> (seconds, epochs) of training seen in this run
        direction = "minimize" if self._lower else "maximize"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._studies = {
            name + suffix: optuna.create_study(
                study_name=name + suffix,
                storage=storage,
                direction=direction,
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.NopPruner(),
            )
            for name in self.arms
            for suffix in ("", CONFIRM)
        }
        self._recover()

    # what next -------------------------------------------------------------------------------------------------------
    def next(self) -> Assignment | None:
        """Return the next trial to run; None while nothing can start: wait for the live ones, or else all is done."""
        if self._again:
            return self._resume(self._again.popleft())
        arm = self._arm_to_search()
        if arm is not None:
            return self._propose(arm)
        return self._confirm()

    def finished(self) -> bool:
        """Return whether nothing is live and nothing is due."""
        if self.live or self._again or self._arm_to_search() is not None:
            return False
        return not any(self.due(name) for name in self.arms)

    def confirmed(self) -> list[tuple[TrialKey, TrialRecord]]:
        """Return the completed confirmation trials, which the sealed evaluation is about."""
        return [
            (key, record)
            for records in self._records.values()
            for key, record in sorted(records.items())
            if record.phase == "confirm" and record.state == "complete"
        ]

    def device_seconds(self) -> float:
        """Return what the whole study has spent so far."""
        told = sum(r.device_seconds for rs in self._records.values() for r in rs.values() if r.finished)
        return told + sum(run.device_seconds for run in self.live.values())

    def records(self, arm: str) -> list[TrialRecord]:
        """Return the arm's trials that have begun."""
        return list(self._records[arm].values())

    def live_of(self, arm: str) -> list[Running]:
        return [run for key, run in self.live.items() if key.arm == arm]

    def _searched(self, arm: str) -> list[TrialRecord]:
        return [r for r in self._records[arm].values() if r.phase == "search"]

    def searching(self, arm: str) -> bool:
        """Return whether the arm's search budget allows another trial."""
        records = self._searched(arm)
        if self.config.search.trials is not None:
            return len(records) < self.config.search.trials
        budget = self.config.search.device_seconds or 0.0
        told = sum(r.device_seconds for r in records if r.finished)
        return told + sum(run.device_seconds for run in self.live_of(arm)) < budget

    def _arm_to_search(self) -> str | None:
        open_arms = [name for name in self.arms if self.searching(name)]
        return min(open_arms, key=lambda name: len(self._searched(name)), default=None)

    def due(self, arm: str) -> list[confirm.Due]:
        """Return the arm's outstanding select and confirm trials; none before its search is over."""
        if self.searching(arm) or not all(r.finished for r in self._searched(arm)):
            return []
        if arm not in self._due:
            self._due[arm] = confirm.due(list(self._records[arm].values()), self._rule)
        return self._due[arm]

    def _propose(self, arm: str) -> Assignment:
        study, index = self._studies[arm], len(self._searched(arm))
        space = self.arms[arm].space
        given = [space.defaults(), *self._warm.get(arm, ())]
        if index < len(given):
            attrs = {"default": True, "sources": space.sources()} if index == 0 else {"default": False, "warm_start": True}
            return self._create(arm, "search", given[index], attrs)
        study.sampler = self._sampler(arm, len(study.get_trials(deepcopy=False)))
        trial = study.ask(space.distributions())
        return self._start(arm, "search", self.storage.get_trial(trial._trial_id))

    def _confirm(self) -> Assignment | None:
        waiting = [name for name in self.arms if self.due(name)]
        if not waiting:
            return None
        arm = min(waiting, key=lambda name: len(self._records[name]) - len(self._searched(name)))
        due = self.due(arm)[0]
        attrs = {"seed": due.seed, "default": due.default, "point": due.point}
        return self._create(arm, due.phase, due.params, attrs)

    def _create(self, arm: str, phase: Phase, params: Params, attrs: dict[str, Any]) -> Assignment:
        """Create a trial at a given point in one write, so that a crash leaves all of it or nothing."""
        study = self._studies[arm if phase == "search" else arm + CONFIRM]
        distributions = {n: d for n, d in self.arms[arm].space.distributions().items() if n in params}
        number = len(study.get_trials(deepcopy=False))
        seed = attrs.get("seed", self._search_seed(number))
        folder = self._configure(self.arms[arm], params, phase, number, seed)["folder"]
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=distributions,
            user_attrs={**attrs, "phase": phase, "seed": seed, "folder": self._relative(folder)},
        )
        trial.datetime_start = datetime.now()
        study.add_trial(trial)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        return self._start(arm, phase, self.storage.get_trial(trial_id))

    def _start(self, arm: str, phase: Phase, trial: FrozenTrial) -> Assignment:
        key = TrialKey(arm, phase, trial.number)
        seed = trial.user_attrs.get("seed", self._search_seed(trial.number))
        config = self._configure(self.arms[arm], trial.params, phase, trial.number, seed)
        attrs = {"phase": phase, "seed": seed, "default": False, "folder": self._relative(config["folder"])}
        for name, value in attrs.items():
            if name not in trial.user_attrs:
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
                trial.user_attrs[name] = value
        settled_after = self.arms[arm].settled_after(trial.params)
        lost = int(trial.user_attrs.get("lost", 0))
        folder = Path(config["folder"])
        self.live[key] = Running(key, trial._trial_id, trial.params, seed, folder, settled_after, lost)
        self._record(key, "running", trial.params, trial.user_attrs)
        return Assignment(key, config)

    def _resume(self, key: TrialKey) -> Assignment:
        """Start an interrupted trial again under its number; where the crash came before its point was drawn, draw it."""
        study = self._studies[key.study_name]
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study._study_id, key.number)
        if key.phase == "search":
            study.sampler = self._sampler(key.arm, key.number)
            trial = optuna.trial.Trial(study, trial_id)
            for name, distribution in self.arms[key.arm].space.distributions().items():
                trial._suggest(name, distribution)  # what study.ask(distributions) does; leaves drawn values alone
        return self._start(key.arm, key.phase, self.storage.get_trial(trial_id))

    def _sampler(self, arm: str, number: int) -> optuna.samplers.BaseSampler:
        search = self.config.search
        return sampler_for(
            search.sampler, study_seed=self.config.seed, arm=arm, number=number, trials=search.trials or 20
        )

    def _search_seed(self, number: int) -> int:
        return confirm.seed_of(self.config.seed, "search", number)

    def _relative(self, folder: str) -> str:
        return os.path.relpath(folder, self.folder)

    # what became of it -----------------------------------------------------------------------------------------------
    def report(self, key: TrialKey, row: Mapping[str, Any]) -> None:
        """Take a trial's metrics after an epoch; those of earlier epochs, before an interruption, are in its history."""
        run = self.live[key]
        known = len(run.curve)
        if not run.curve:
            for earlier in _history(run.folder):
                if earlier["epoch"] < row["epoch"]:
                    run.take(earlier, self.config.objective)
        seconds, epochs = self.pace.get(self.arms[key.arm].dataset, (0.0, 0))
        self.pace[self.arms[key.arm].dataset] = (seconds + float(row.get("time/epoch_s", 0.0)), epochs + 1)
        run.take(row, self.config.objective)
        for epoch in list(run.curve)[known:]:
            self.storage.set_trial_intermediate_value(run.trial_id, epoch, run.curve[epoch])

    def finish(self, key: TrialKey, outcome: Outcome, reason: str = "") -> None:
        """Tell Optuna the truth about a live trial; a lost one runs again, at most `MAX_LOST` times."""
        run = self.live.pop(key)
        value = run.value
        if outcome == "lost":
            run.lost += 1
            self.storage.set_trial_user_attr(run.trial_id, "lost", run.lost)
            self.storage.set_trial_user_attr(run.trial_id, "reason", reason)
            if run.lost <= MAX_LOST:
                self._again.append(key)
                return
            outcome, reason = "failed", f"lost {run.lost} times, at last: {reason}"
        if outcome == "complete" and value is None:
            outcome, reason = "failed", f"`{self.config.objective}` was never finite"
        attrs: dict[str, Any] = {"epochs": run.epochs, "device_seconds": round(run.device_seconds, 6)}
        if run.best_epoch is not None and run.best_epoch in run.metrics:
            attrs |= {"best_epoch": run.best_epoch, "metrics": run.metrics[run.best_epoch]}
        if outcome == "failed" or run.lost:
            attrs["reason"] = reason
        for name, value in attrs.items():
            self.storage.set_trial_user_attr(run.trial_id, name, value)
        study = self._studies[key.study_name]
        if key.phase == "search":
            study.sampler = self._sampler(key.arm, key.number)
        if outcome == "complete":
            told = study.tell(key.number, value)
        else:
            told = study.tell(key.number, state=TrialState.PRUNED if outcome == "pruned" else TrialState.FAIL)
        self._record(key, outcome, told.params, told.user_attrs, told.value if outcome != "failed" else None)

    def release(self, key: TrialKey) -> None:
        """Let go of a live trial that was interrupted; it stays RUNNING, and the next run of the study resumes it."""
        self.live.pop(key, None)

    def _record(
        self, key: TrialKey, state: str, params: Params, attrs: Mapping[str, Any], value: float | None = None
    ) -> None:
        arm = self.arms[key.arm]
        dataset, _, method = key.arm.partition("/")
        self._records[key.arm][key] = TrialRecord(
            arm=arm.name,
            dataset=dataset,
            method=method,
            phase=key.phase,
            number=key.number,
            state=state,  # type: ignore[arg-type]
            params=dict(params),
            seed=attrs.get("seed"),
            value=value,
            attrs=dict(attrs),
        )
        self._due.pop(key.arm, None)

    def _recover(self) -> None:
        interrupted: list[TrialKey] = []
        for record in read_records(self.storage):
            if record.arm not in self.arms or record.state == "waiting":
                continue
            key = TrialKey(record.arm, record.phase, record.number)
            self._records[record.arm][key] = record
            if record.state == "running":
                interrupted.append(key)
        order = {name: i for i, name in enumerate(self.arms)}
        phases = ("search", "select", "confirm")
        for key in sorted(interrupted, key=lambda k: (phases.index(k.phase), k.number, order[k.arm])):
            stop = self.ledger.stop_of(key.arm, key.number) if key.phase == "search" else None
            if stop is None:
                self._again.append(key)
                continue
            self._resume(key)
            for row in _history(self.live[key].folder):
                if row["epoch"] <= stop.epoch:
                    self.report(key, row)
            self.finish(key, "pruned")


def _history(folder: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        yield from durable.json_lines(folder / "history.jsonl")
