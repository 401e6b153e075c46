"""Reads the trials in a study's Optuna storage as plain records, without loading ray or torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from balance_tune.errors import UserError
from balance_tune.studies.storage.database import database_of
from balance_tune.studies.storage.files import DAMAGE, JOURNAL, damaged

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study._frozen import FrozenStudy  # for the type checker only
    from optuna.trial import FrozenTrial

Phase = Literal["search", "select", "confirm"]
State = Literal["complete", "pruned", "failed", "running", "waiting"]

CONFIRM = "/confirm"  # suffix of the Optuna study that holds a cell's select and confirm trials
REPLICATE = "#"  # between an arm's name and the number of a replicate, from the second one on
RETRY_OF, RETRIED = "retry_of", "retried_as"
SUCCESSORS = {"requeued_from": "requeued_as", RETRY_OF: RETRIED}
"""What a trial says of the one that it runs again, and what that one's record then says."""
STATES: dict[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


def cell_name(arm: str, replicate: int) -> str:
    """Return the name of an arm in one replicate (0, 1, ...), by which its Optuna studies and decisions are kept.

    In the first replicate it is the arm's own, so that a study of one replicate can be extended by more.
    """
    return arm if replicate == 0 else f"{arm}{REPLICATE}{replicate + 1}"


def cell_of(name: str) -> tuple[str, int]:
    """Return the arm and the replicate of a cell's name."""
    arm, _, number = name.partition(REPLICATE)
    return arm, int(number) - 1 if number else 0


@dataclass(frozen=True)
class Range:
    """What a parameter was searched over: `low` to `high` (numbers, perhaps on a log scale), or `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as read from the storage.

    `arm` is "dataset/method"; `method` includes a variant ("unimodal-audio"). `number` counts within the Optuna study,
    which select and confirm trials share. `curve` maps epoch (1-based) to the objective; `value` is the best of it that
    counts, in the objective's unit, or None. `attrs` are the trial's user attributes, `space` the searched ranges.
    `started` and `ended` are in seconds since 1970. `replicate` counts from 0.
    """

    arm: str
    dataset: str
    method: str
    phase: Phase
    number: int
    state: State
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    value: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Range] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    replicate: int = 0

    @property
    def cell(self) -> str:
        """The arm in its replicate."""
        return cell_name(self.arm, self.replicate)

    @property
    def finished(self) -> bool:
        """Whether the trial has ended."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def epochs(self) -> int:
        """Epochs trained; of a trial that died, the epochs that it reported."""
        return int(self.attrs.get("epochs", len(self.curve)))

    @property
    def device_seconds(self) -> float:
        """Device time of the trial, all devices together."""
        return float(self.attrs.get("device_seconds", 0.0))

    @property
    def superseded(self) -> bool:
        """Whether the trial runs again under another number, because it was lost with its machine, or failed and
        `run --retry-failed` was asked for: no part of any budget."""
        return self.state == "failed" and bool(self.attrs.get("requeued_as") or self.retried)

    @property
    def retried(self) -> bool:
        """Whether the trial failed by itself and runs again under another number."""
        return self.state == "failed" and bool(self.attrs.get(RETRIED))


def read_records(source: Path | str | BaseStorage) -> list[TrialRecord]:
    """Return every trial of a study: arms in the order they were created, then replicates, then search before the rest.

    `source` is a study folder (its journal file, or its part of a database), a journal file, a database URL, or an open
    Optuna storage.

    Raises:
        UserError: there is no study.
    """
    storage = open_to_read(source)
    records: list[TrialRecord] = []
    for study_id, study in studies_of(storage):
        trials = storage.get_all_trials(study_id, deepcopy=False)
        again: dict[int, str] = {}
        for t in trials:
            again |= {t.user_attrs[name]: mark for name, mark in SUCCESSORS.items() if name in t.user_attrs}
        records += [_record(study.study_name, trial, again.get(trial.number)) for trial in trials]
    created = {arm: i for i, arm in reversed(list(enumerate(r.arm for r in records)))}
    phases = ("search", "select", "confirm")
    return sorted(records, key=lambda r: (created[r.arm], r.replicate, phases.index(r.phase), r.number))


def studies_of(storage: BaseStorage) -> list[tuple[int, FrozenStudy]]:
    """Return the id and the description of each Optuna study of a storage, in the order in which they were created."""
    studies = [(storage.get_study_id_from_name(study.study_name), study) for study in storage.get_all_studies()]
    return sorted(studies, key=lambda pair: pair[0])


def open_to_read(source: Path | str | BaseStorage) -> BaseStorage:
    """Return the Optuna storage at a study folder, journal file or database URL; an open one is returned as it is."""
    if not isinstance(source, Path | str):
        return source
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in str(source):
        return RDBStorage(str(source))
    path = Path(source)
    if path.is_dir() and not (path / JOURNAL).exists():
        storage = database_of(path)
        if storage is not None:
            return storage
    path = path / JOURNAL if path.is_dir() else path
    if not path.is_file():  # Optuna would create it, and a reader must not write
        raise UserError(f"a study must exist to be read, but there is no `{path}`; `balance-tune run` makes one.")
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except DAMAGE as error:
        raise damaged(path, error) from error


def _record(study_name: str, trial: FrozenTrial, superseded: str | None) -> TrialRecord:
    arm, replicate = cell_of(study_name.removesuffix(CONFIRM))
    dataset, _, method = arm.partition("/")
    attrs = dict(trial.user_attrs)
    if superseded:
        attrs[superseded] = True
    folder = attrs.get("folder", "")
    if not isinstance(folder, str) or folder.startswith("/") or ".." in folder.split("/"):
        raise UserError(
            f"a trial's folder must lie in its study, but trial {trial.number} of {arm} names {folder!r:.80}."
        )
    return TrialRecord(
        arm=arm,
        dataset=dataset,
        method=method,
        phase=attrs.get("phase", "confirm" if study_name.endswith(CONFIRM) else "search"),
        number=trial.number,
        state=STATES[trial.state.name],
        params=MappingProxyType(
            dict(trial.params or trial.system_attrs.get("fixed_params", {}))
        ),  # the latter: enqueued
        seed=attrs.get("seed"),
        value=trial.value if trial.state.name in ("COMPLETE", "PRUNED") else None,
        curve=MappingProxyType(dict(sorted(trial.intermediate_values.items()))),
        attrs=MappingProxyType(attrs),
        space=MappingProxyType({name: _range(d) for name, d in trial.distributions.items()}),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        replicate=replicate,
    )


def _range(distribution: BaseDistribution) -> Range:
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return Range(choices=tuple(choices))
    return Range(
        low=getattr(distribution, "low", None),
        high=getattr(distribution, "high", None),
        log=bool(getattr(distribution, "log", False)),
        integer=type(distribution).__name__ == "IntDistribution",
    )
