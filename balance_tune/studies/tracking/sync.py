"""Writes to MLflow what the study's folder holds and MLflow lacks: a run for the study, one an arm, one a trial.

The folder is the truth: Optuna's storage says which trials there are and how they ended, a trial's `history.jsonl` has
its epochs, `test.json` its sealed evaluation, `trial.json` its configuration, and `report/` the results. No value
depends on when it is written, so a sync may be killed at any moment and repeated by any process.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from balance_tune.datasets.manifest import Manifest
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.protocol.provenance import CONFIG
from balance_tune.studies.protocol.selection import Rule, best_trial
from balance_tune.studies.protocol.study_record import RECORD
from balance_tune.studies.results.arm_results import CellResults
from balance_tune.studies.results.leaderboard import LeaderboardRow, rows_of
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.records import CONFIRM, TrialRecord, cell_of, open_to_read, read_records, studies_of
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.artifacts import checkpoint_files, study_files
from balance_tune.studies.tracking.backend import Store, reason_of
from balance_tune.studies.tracking.champions import Champions, candidates, import_libraries
from balance_tune.studies.tracking.client import Client, is_refusal
from balance_tune.studies.tracking.history import NewEpochs
from balance_tune.studies.tracking.memory import Cache, digest, fingerprint, study_id
from balance_tune.studies.tracking.note import NOTE, note
from balance_tune.studies.tracking.origin import code_version, origin_tags
from balance_tune.studies.tracking.pictures import CURVES, curves_of_arm, trial_pictures
from balance_tune.studies.tracking.runs import (
    STATUS,
    TAG,
    Content,
    Row,
    RunKey,
    flatten,
    params_of,
    params_of_study,
    truncate,
)
from balance_tune.studies.tracking.view import VIEW, view
from balance_tune.tasks import METRICS

StudyState = Literal["running", "interrupted", "complete"]

ATTEMPTS = 5  # at one run, while MLflow answers otherwise
TEST = "test.json"
OLD_QUEUE = ("mlflow.queue", "mlflow.queue.sent")  # of versions up to 0.1: what it held is in the folder too
TRIAL_TAGS = (
    "seed", "reason", "point", "default", "requeued_from", "requeued_as", "retry_of", "retried_as", "lost", "sources",
    "host", "device",
)  # fmt: skip

logger = logging.getLogger(__name__)


def sync(
    folder: StudyFolder | Path, store: Store, state: StudyState = "running", *, imports: Sequence[str] = ()
) -> bool:
    """Write to `store` what it lacks of the study in `folder`; see `Sync`.

    Returns:
        Whether the store has all of it now.
    """
    return Sync(folder, store, imports=imports).run(state)


@dataclass(frozen=True)
class Step:
    """One run (or registered model) that is to be written, and how."""

    key: RunKey | str
    write: Callable[[], None]


class Sync:
    """Writes one study to one store, repeatedly; it remembers what it has written as long as MLflow answers.

    Args:
        folder: the study's folder; another process may be writing it.
        store: where the runs go.
        imports: modules that define datasets of the study and are imported before a model is registered.

    Raises:
        UserError: the study file or the id of the study is damaged.
    """

    def __init__(self, folder: StudyFolder | Path, store: Store, *, imports: Sequence[str] = ()) -> None:
        self._folder, self._store, self._imports = StudyFolder.of(folder), store, imports
        self._path = path = self._folder.path
        self._config = stored_config(path)
        self._client = Client(store, self._config.name, study_id(self._folder), {VIEW: view(self._config.objective)})
        self._cache = Cache.of(path, store.shown)
        self._storage = open_to_read(path)
        self._manifests = {
            name: Manifest.from_json(file.read_text())
            for name in self._config.datasets
            if (file := path / "data" / f"{name}.json").is_file()
        }
        self._started_at = _started_at(path)
        self._open = False
        self._journal: tuple[int, int] | None = None
        self._records: list[TrialRecord] = []
        self._arms: list[str] = []
        self._written: dict[RunKey, tuple[Any, ...]] = {}  # run -> what of it is in MLflow
        self._epochs: dict[RunKey, NewEpochs] = {}
        self._failures: Counter[RunKey | str] = Counter()
        self._refused: set[RunKey | str] = set()

    def run(self, state: StudyState, on_progress: Callable[[int], None] = lambda left: None) -> bool:
        """Write the current state of the study; `on_progress` is called with the number of runs that are left.

        With `state` other than "running" the runs of study and arms are ended, and for "complete" they get the results.
        What MLflow refuses is left out with a warning, and tried again by the next process.

        Returns:
            Whether nothing was refused.

        Raises:
            Exception: whatever MLflow, or the storage of the trials, raises when it does not answer.
        """
        if not self._open:
            self._ask()
        self._read()
        steps = [*self._introduction(state), *self._trials(state)]
        if state != "running":
            steps += self._ending(state)
        for left, step in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
            if step.key not in self._refused:
                self._attempt(step)
            on_progress(left)
        if state == "running" and any(r.phase == "confirm" and r.finished for r in self._records):
            import_libraries()
        if state == "complete":
            self._cache.complete = "" if self._refused else fingerprint(self._records, self._path)
            self._cache.save()
            for name in OLD_QUEUE if not self._refused else ():
                (self._path / name).unlink(missing_ok=True)
        return not self._refused

    def _ask(self) -> None:
        """Learn what MLflow has, and forget what was written before."""
        self._client.open()
        self._written, self._epochs, self._open = {}, {}, True

    def _attempt(self, step: Step) -> None:
        try:
            step.write()
        except Exception as error:
            self._open = False  # the cached runs may be wrong now: the next pass asks MLflow
            self._failures[step.key] += 1
            if is_refusal(error) and self._failures[step.key] == 1:  # the run may have been deleted
                self._ask()
                self._attempt(step)
                return
            if not is_refusal(error) and self._failures[step.key] < ATTEMPTS:
                raise
            self._refused.add(step.key)
            name = step.key if isinstance(step.key, str) else step.key.name(self._config.name)
            logger.warning("MLflow does not get `%s` as it is: %s", name, reason_of(self._store, error))

    def _read(self) -> None:
        """Read the trials, unless the journal is unchanged."""
        journal = self._path / JOURNAL
        if journal.is_file():
            stat = journal.stat()
            if self._journal == (stat.st_size, stat.st_mtime_ns):
                return
            self._journal = (stat.st_size, stat.st_mtime_ns)
        self._records = read_records(self._storage)
        names = [study.study_name for _, study in studies_of(self._storage)]
        self._arms = list(dict.fromkeys(cell_of(name)[0] for name in names if not name.endswith(CONFIRM)))

    # study and arms --------------------------------------------------------------------------------------------------
    def _introduction(self, state: StudyState) -> Iterator[Step]:
        """Yield the runs of study and arms that are missing, or are to be shown as running."""
        replicates = [RunKey(arm, replicate=k) for arm in self._arms for k in self._replicates()]
        keys = [RunKey(), *map(RunKey, self._arms), *replicates]
        for at, key in enumerate(keys, start=self._started_at):  # their order in MLflow
            missing = key not in self._client.runs
            if not missing and (state != "running" or key in self._written):
                continue
            content = Content(key, STATUS["running"], at, tags={TAG + "state": "running"})
            if key.arm:
                content.tags |= self._data_tags(key.arm)
                content.birth_tags = {TAG + "code_version": code_version()}
                content.datasets = self._inputs(key.arm)
            else:
                content.tags |= origin_tags() | {TAG + "objective": self._config.objective}
                content.tags[TAG + "protocol"] = self._config.protocol
                content.params = params_of_study(self._config.as_dict())
                content.datasets = list(self._manifests.values())
                content.files = study_files(self._path, None) if missing else []
            yield Step(key, partial(self._write, content, ("running",)))

    def _ending(self, state: StudyState) -> Iterator[Step]:
        """Yield the runs of arms and study as they are when the study ends, then the models to be registered."""
        ended: dict[str, str] = {TAG + "state": state}
        rows = rows_of(self._records, self._config.as_dict(), self._path) if state == "complete" else []
        by_arm = {row.arm: row for row in rows}
        for name in self._arms:
            for k in self._replicates():
                content = Content(RunKey(name, replicate=k), STATUS[state], self._started_at, tags=dict(ended))
                yield Step(content.key, partial(self._write_replicate, content, state))
            content = Content(RunKey(name), STATUS[state], self._started_at, tags=dict(ended))
            yield Step(content.key, partial(self._write_arm, content, by_arm.get(name)))
        yield Step(RunKey(), partial(self._write_study, Content(RunKey(), STATUS[state], self._started_at, tags=ended)))
        for dataset, contenders in candidates(rows, self._records, self._manifests, self._config.augment).items():
            yield Step(f"model {dataset}", partial(self._register_champion, contenders, self._manifests[dataset]))

    def _replicates(self) -> range:
        """Return the replicates that have runs of their own, counted from 1; none in a study of one."""
        return range(1, self._config.replicates + 1 if self._config.replicates > 1 else 1)

    def _key(self, r: TrialRecord) -> RunKey:
        return self._client.key_of(r.arm, r.phase, r.number, r.replicate, self._config.replicates)

    def _write_replicate(self, content: Content, state: StudyState) -> None:
        """Write what an arm chose in a replicate, and how good that was."""
        own = [r for r in self._records if r.arm == content.key.arm and r.replicate == content.key.replicate - 1]
        if state == "complete" and own:
            cell = CellResults.of(own, Rule.of(self._config.as_dict()), self._path)
            if cell.point is not None:
                content.tags[TAG + "params"] = truncate(json.dumps(dict(cell.point.params)))
                content.tags[TAG + "default"] = str(cell.point.default).lower()
            metrics = {name for names in METRICS.values() for name in names}
            names = {name for test in cell.tests.values() for name in metrics & test.keys()}
            means = {f"replicate/test/{n}": run[0] for n in sorted(names) if (run := cell.run(n)) is not None}
            content.results = [Row(0, _now(), means)] if means else []
            content.documents = {CURVES: curves_of_arm(own, self._config.objective)}
        self._write(content, (content.tags[TAG + "state"],))

    def _write_arm(self, content: Content, row: LeaderboardRow | None) -> None:
        if row is not None:
            numbers = {f"leaderboard/{name}": value for name, value in row.mlflow_metrics().items()}
            content.results = [Row(0, _now(), numbers)]
            content.tags[TAG + "params"] = truncate(json.dumps(row.params))
            best = best_trial(self._records, row.arm, row.params, row.objective)
            files: list[tuple[Path, str]] = []
            if best is not None:
                content.tags[TAG + "best"] = self._key(best).name(self._config.name)
                files = checkpoint_files(self._folder / str(best.attrs.get("folder", "")))
            content.files = files
            own = [r for r in self._records if r.arm == row.arm]
            content.documents = {CURVES: curves_of_arm(own, self._config.objective)}
        self._write(content, (content.tags[TAG + "state"],))

    def _write_study(self, content: Content) -> None:
        state = content.tags[TAG + "state"]
        if state == "complete":
            report = self._path / "report"
            content.tags[NOTE] = truncate(note(self._config, self._manifests, report))
            content.files = study_files(self._path, report)
        self._write(content, (state,))

    def _register_champion(self, contenders: Sequence[Mapping[str, Any]], manifest: Manifest) -> None:
        for module in self._imports:
            import_module(module)
        Champions(self._client, self._folder).register_champion(contenders, manifest)

    # trials ----------------------------------------------------------------------------------------------------------
    def _trials(self, state: StudyState) -> Iterator[Step]:
        """Yield the trials of which something is new."""
        for r in self._records:
            place = r.attrs.get("folder")
            if r.state == "waiting" or not place:  # its creation is not over yet
                continue
            folder = self._folder / str(place)
            key, shown = self._key(r), r.state if r.finished or state == "running" else state
            sealed = r.phase == "confirm" and (folder.path / TEST).is_file()
            epochs = r.epochs if r.finished else max(r.curve, default=0)
            whole = (shown, r.superseded, sealed, epochs)
            if self._written.get(key) != whole:
                yield Step(key, partial(self._write_trial, r, folder, whole, over=state != "running"))

    def _write_trial(
        self, r: TrialRecord, folder: StudyFolder, whole: tuple[str, bool, bool, int], *, over: bool
    ) -> None:
        """Write the current state of a trial; one without files waits for the next pass unless the study is `over`."""
        state, _, sealed, epochs = whole
        key, config = self._key(r), trial_file.read(folder.path)
        content = Content(key, STATUS[state], _milliseconds(r.started) or self._started_at, _milliseconds(r.ended))
        content.tags = self._data_tags(r.arm) | {TAG + "state": state} | _attr_tags(r)
        if config is not None and "split_seed" in config:
            content.tags[TAG + "split_hash"] = str(config.get("split_hash"))
        content.birth_tags = {TAG + "code_version": code_version()}
        if r.finished:
            content.results = _results(r, self._config.objective, content.ended or content.started)
        if sealed:
            test = folder.path / TEST
            metrics = _test_metrics(json.loads(test.read_text()))
            content.results.append(Row(0, int(1000 * test.stat().st_mtime), metrics))
        if key not in self._written and self._holds(content):
            self._written[key] = whole
            return
        history = self._epochs.setdefault(key, NewEpochs(folder, content.started))
        content.epochs = history.read(epochs)
        if not over and (history.last < epochs if r.finished else config is None):
            del self._epochs[key]  # what was read is read again
            return
        content.params = dict(flatten(r.params)) if config is None else params_of(config)
        if config is not None and key not in self._written:
            content.files = [(folder.path / trial_file.FILE, trial_file.FILE)]
        if r.phase == "confirm":  # search trials, of which there are many, name the dataset in a tag
            content.datasets = self._inputs(r.arm)
        if sealed and r.dataset in self._manifests:
            content.documents = trial_pictures(folder.path, self._manifests[r.dataset].classes)
        self._write(content, (*whole[:3], epochs if over else history.last))

    def _holds(self, content: Content) -> bool:
        """Return whether MLflow has the whole run: its status is written last."""
        run = self._client.runs.get(content.key)
        results = {name for row in content.results for name in row.metrics}
        if run is None or not results <= run.metrics.keys() or content.status == STATUS["running"]:
            return False
        return run.status == content.status and content.tags.items() <= run.tags.items()

    # what they share -------------------------------------------------------------------------------------------------
    def _write(self, content: Content, signature: tuple[Any, ...]) -> None:
        stats = [(name, path.stat().st_size, path.stat().st_mtime_ns) for path, name in content.files]
        name, files = content.key.name(self._config.name), digest(stats)
        if content.key in self._client.runs and self._cache.uploaded.get(name) == files:
            content.files = []
        self._client.write(content)
        self._written[content.key] = signature
        if content.files and content.key.kind != "trial":  # a trial's are uploaded before its status says that it ended
            self._cache.uploaded[name] = files

    def _data_tags(self, arm: str) -> dict[str, str]:
        dataset, _, method = arm.partition("/")
        tags = {TAG + "dataset": dataset, TAG + "method": method}
        entry = next((entry for entry in self._config.methods if entry.name == method.partition("-")[0]), None)
        if entry is not None and entry.description is not None:
            tags[TAG + "definition"] = truncate(entry.description)
        manifest = self._manifests.get(dataset)
        if manifest is not None:
            tags |= {TAG + "split_hash": manifest.split_hash, TAG + "data_hash": manifest.data_hash}
        return tags

    def _inputs(self, arm: str) -> list[Manifest]:
        manifest = self._manifests.get(arm.partition("/")[0])
        return [] if manifest is None else [manifest]


def _results(r: TrialRecord, objective: str, at: int) -> list[Row]:
    best = r.attrs.get("metrics") or {}
    numbers = {f"trial/best/{objective}": best.get(objective), "trial/best_epoch": r.attrs.get("best_epoch")}
    numbers["trial/device_seconds"] = r.attrs.get("device_seconds")
    metrics = {name: float(value) for name, value in numbers.items() if value is not None}
    return [Row(int(r.attrs.get("best_epoch") or 0), at, metrics)] if metrics else []


def _attr_tags(r: TrialRecord) -> dict[str, str]:
    values = {name: r.attrs.get(name) for name in TRIAL_TAGS}
    return {
        TAG + name: truncate(value if isinstance(value, str) else json.dumps(value))
        for name, value in values.items()
        if value is not None and value is not False and value != ""
    }


def _test_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {f"test/{name}": value for name, value in metrics.items() if isinstance(value, float)}


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(1000 * seconds)


def _now() -> int:
    return int(1000 * time.time())


def _started_at(folder: Path) -> int:
    """Return when the study began, in milliseconds since 1970."""
    try:
        start = datetime.fromisoformat(json.loads((folder / RECORD).read_text())["begun"]).timestamp()
    except (OSError, ValueError, KeyError, TypeError):  # a folder that was written by hand
        start = (folder / CONFIG).stat().st_mtime
    return int(1000 * start)
