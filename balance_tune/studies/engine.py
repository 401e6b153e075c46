"""Runs a study from beginning to end, or on from wherever it was left: the one way through."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from balance_tune.errors import UserError
from balance_tune.studies.cluster.preflight import preflight
from balance_tune.studies.cluster.ray_cluster import GPU_SHARE, TrialResources, ray_for, remote, study_resources
from balance_tune.studies.config.schema import BASELINE, StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import pruning_log_of
from balance_tune.studies.execution import retention
from balance_tune.studies.execution.limits import Limits
from balance_tune.studies.execution.sealed import Sealed
from balance_tune.studies.loading import load_config
from balance_tune.studies.monitor.estimate import outlook, seconds_left
from balance_tune.studies.monitor.progress import Kind, Progress, progress_of
from balance_tune.studies.protocol import provenance, selection
from balance_tune.studies.protocol.arms import Arm, arms_of, check_models, trial_config
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.results import leaderboard, report, tables
from balance_tune.studies.search.study_queue import Params, StudyQueue
from balance_tune.studies.signals import STOPPED, Interruption
from balance_tune.studies.storage import durable, object_store, timeouts
from balance_tune.studies.storage.claim import claimed
from balance_tune.studies.storage.database import lease_of
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.lock import StudyLock
from balance_tune.studies.storage.records import Phase, State, read_records
from balance_tune.studies.storage.root import ROOT, root_folder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.backend import store_of as mlflow_store
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.tracking.tracker import Tracker

SCRATCH = ".tune"


@dataclass(frozen=True)
class StudyResult:
    """What a run of a study came to.

    Attributes:
        rows: the leaderboard, one row per arm; what is not known yet is None.
        folder: the study's folder.
        state: "done"; "limited": the study's own limit ended it; "interrupted": a signal did; "halted": nothing could
            be written any more, say. In all but the first it goes on when it is run again.
        reason: why it ended early, in words.
    """

    rows: list[leaderboard.LeaderboardRow]
    folder: Path
    state: Literal["done", "limited", "interrupted", "halted"] = "done"
    reason: str = ""


def run_study(
    config: StudyConfig | Mapping[str, Any] | Path | str,
    *,
    root: Path | str | None = None,
    progress: Kind = "auto",
    callbacks: Sequence[Any] = (),
) -> StudyResult:
    """Run a study, go on with one that was interrupted, extend a finished one, or just return its leaderboard.

    `config` is a study, a mapping of the same shape, or a study file. `root` (default: $BALANCE_TUNE_ROOT, else
    ./studies) holds one folder per study; it may be the URI of an object store. `callbacks` are `ray.tune.Callback`s of
    your own. The first Ctrl-C or SIGTERM stops cleanly: the result then has the state "interrupted".

    Raises:
        UserError: one line, before anything has started: the study file is wrong, the root cannot be written, another
            driver runs this study, or code, data or file no longer are what the study was begun with.
    """
    timeouts.check()
    config = config if isinstance(config, StudyConfig) else load_config(config)
    folder = _folder(root_folder(str(root or os.environ.get(ROOT) or "studies"), driver=True), config)
    try:
        with StudyLock(folder), claimed(folder), ExitStack() as held:
            display = progress_of(progress)
            try:
                with Interruption(display.message) as interruption:
                    return _Study(config, folder, display, interruption, callbacks, held).run()
            finally:
                display.close()
    except object_store.Away as error:
        return StudyResult([], folder, "halted", str(error))


class _Study:
    """One run of a study by one driver."""

    def __init__(
        self,
        config: StudyConfig,
        folder: Path,
        display: Progress,
        interruption: Interruption,
        callbacks: Sequence[Any],
        held: ExitStack,
    ) -> None:
        self.config, self.folder, self.display, self.interruption = config, folder, display, interruption
        self.callbacks = list(callbacks)
        durable.sweep(folder)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)  # of a driver that was killed
        self.arms = arms_of(config)
        check_models(config, self.arms)
        self.stores, self.manifests = _stores(config, folder.parent / "data", display)
        extensions = provenance.settle(folder, config, self.manifests)
        for phrase in extensions:
            display.message(f"extended: {phrase}")
        for name, manifest in self.manifests.items():  # the report reads them, wherever the data lies by then
            durable.write(folder / "data" / f"{name}.json", manifest.to_json())
        self.resources = TrialResources(config.resources.cpus_per_trial, 0.0, config.resources.workers, 1)
        self.resources_by_dataset: dict[str, TrialResources] = {}
        self.tracker: Tracker | None = None
        self.worked = False
        self.storage = open_storage(folder)
        held.enter_context(lease_of(folder))
        self.pruning_log = pruning_log_of(folder)
        self.queue = StudyQueue(
            config,
            self.arms,
            self.storage,
            self.pruning_log,
            folder,
            configure=self._configure,
            warm=_warm_points(config, self.arms, folder.parent),
            on_trial_end=self._on_trial_end,
        )
        self.limits = Limits(config.limit, self.queue.device_seconds)

    def run(self) -> StudyResult:
        from balance_tune.studies.tracking.tracker import Tracker

        self.tracker = tracker = Tracker(self.config, self.folder, self.arms, self.manifests)
        try:
            tracker.reconcile(read_records(self.storage))
            state, reason = self._work()
        except STOPPED:
            state, reason = "interrupted", "a second signal, or one while nothing was running"
        except BaseException as error:
            if not self.interruption.requested or not isinstance(error, Exception):
                tracker.interrupt()
                raise
            state, reason = "interrupted", f"a signal, and Ray broke down over it: {error}"  # it got the signal too
        finally:
            self.interruption.settled()
            self.pruning_log.close()
        rows = self._report(tracker, state)
        return StudyResult(rows, self.folder, state, reason)

    def _work(self) -> tuple[Literal["done", "limited", "interrupted", "halted"], str]:
        searched = self.queue.finished()
        if searched and not self._unsealed():
            return "done", ""
        self.worked = True
        with ray_for(self.config.resources) as cluster:
            self.interruption.install()
            self.resources, self.resources_by_dataset = study_resources(self.config, cluster)
            if remote():
                wrong = preflight(
                    self.folder, self.resources, self.config.resources.wait_minutes * 60, self.display.message
                )
                if wrong:
                    return "halted", wrong
            share = self._share_of_gpu(cluster)  # on a node that preflight has waited for
            self.resources, self.resources_by_dataset = study_resources(self.config, cluster, share)
            ended = "" if searched else self._search()
            if self.interruption.requested:
                return "interrupted", "a signal"
            if ended and not self.limits.reached():
                return "halted", ended
            self._seal()
            return ("limited", ended) if ended else ("done", "")

    def _share_of_gpu(self, cluster: Mapping[str, float]) -> float:
        """Return what `gpus_per_trial: auto` means here: measured before the first trial, and then the study's own."""
        from ray.exceptions import RayError

        from balance_tune.studies.cluster.gpu_sharing import measured, settled

        resources = self.config.resources
        if resources.gpus_per_trial != "auto" or resources.workers > 1 or not cluster.get("GPU"):
            return GPU_SHARE
        baselines = [arm for arm in self.arms if arm.method == BASELINE]
        configs = [self._configure(arm, arm.space.defaults(), "search", 0, self.config.seed) for arm in baselines]
        try:
            share = settled(self.folder, lambda: measured(configs, resources.cpus_per_trial))
        except RayError as error:
            self.display.message(f"each trial gets {GPU_SHARE:g} of a GPU; it could not be measured: {error}")
            return GPU_SHARE
        self.display.message(
            f"each trial gets {share:g} of a GPU, as measured (`resources.gpus_per_trial` overrides it)"
        )
        return share

    def _search(self) -> str:
        """Run trials until nothing is due; return why it ended before, or nothing."""
        from balance_tune.studies.execution.tune_run import run_trials

        self.display.message(f"{self.config.name}: {len(self.arms)} arms, {self.resources.slots} trials at a time")
        epochs = {arm.name: _longest(arm) for arm in self.arms}
        pruner = Pruner(self.config.search.early_stopping, epochs, self.pruning_log, Objective(self.config.objective))
        if self.tracker is not None:
            self.tracker.begin()
        tracker = [self.tracker.callback] if self.tracker is not None else []
        with self.interruption.patient(), _scratch(self.folder) as scratch:
            return run_trials(
                self.queue,
                pruner,
                self.resources,
                scratch,
                warm=self.config.runner != "isolated",
                callbacks=[*tracker, *self.callbacks],
                interrupted=lambda: self.interruption.requested,
                exhausted=self.limits.reached,
                tick=self._tick,
                patience=self.config.resources.wait_minutes * 60,
            )

    def _seal(self) -> None:
        """Evaluate every confirmed checkpoint that was not yet on the test rows."""
        from balance_tune.studies.execution.sealed import evaluate_all

        waiting = self._unsealed()
        if not waiting:
            return
        self.display.message(f"sealed test evaluation of {len(waiting)} checkpoints")
        cpus = self.resources.cpus
        for one, found in evaluate_all(waiting, cpus=cpus, gpus=self.resources.gpus, device=self.resources.device):
            if isinstance(found, Exception):
                self.display.message(f"{one.key.arm} confirm {one.key.number}: not evaluated on test: {found}")
                continue
            object_store.fetch(one.folder)
            if self.tracker is not None:
                self.tracker.sealed(one.key.arm, one.key.number, found, one.folder)

    def _unsealed(self) -> list[Sealed]:
        found = []
        for key, record in self.queue.confirmed():
            dataset = self.queue.arms[key.arm].dataset
            one = Sealed(key, self.folder / str(record.attrs["folder"]), self.stores[dataset])
            if not one.done:
                found.append(one)
        return found

    def _report(self, tracker: Tracker, state: str) -> list[leaderboard.LeaderboardRow]:
        for arm in self.queue.arms:
            self._retain(arm)
        if state == "halted":  # nothing more can be written
            tracker.interrupt()
            return self._rows_if_known()
        if self.worked:
            object_store.fetch(self.folder)
        rows = leaderboard.build(self.folder)
        tables.write_files(self.folder, rows)
        if self.worked or not (self.folder / "report" / "index.html").is_file():
            report.write(self.folder)
        if state in ("done", "limited"):
            tracker.finish(rows, self.folder / "report", read_records(self.storage))
        else:
            tracker.interrupt()
        return rows

    def _rows_if_known(self) -> list[leaderboard.LeaderboardRow]:
        try:
            return leaderboard.build(self.folder)
        except UserError as error:  # the database may be what halted the study
            self.display.message(f"there is no leaderboard now: {error}")
            return []

    def _configure(self, arm: Arm, params: Params, phase: Phase, number: int, seed: int) -> dict[str, Any]:
        config = trial_config(
            self.config,
            arm,
            params,
            phase=phase,
            number=number,
            seed=seed,
            study_folder=self.folder,
            store=self.stores[arm.dataset],
        )
        trial = self.resources_by_dataset.get(arm.dataset, self.resources)
        resources = {"cpus": trial.cpus, "gpus": trial.gpus}
        scratch = self.folder / SCRATCH
        home = object_store.home(Path(config["folder"]))
        if home is not None:
            return {**config, **resources, "scratch": object_store.address(scratch), "home": home}
        return {**config, **resources, "scratch": str(scratch)}

    def _on_trial_end(self, key: TrialKey, state: State, attrs: Mapping[str, Any]) -> None:
        self.display.ended(key, state, attrs)
        if self.tracker is not None:
            self.tracker.trial_finished(key.arm, key.phase, key.number, state, attrs)
        if self.worked:  # not while the queue is still being opened
            self._retain(key.arm)

    def _retain(self, arm: str) -> None:
        """Delete the checkpoints that the arm needs no more, once it is decided."""
        queue, records = self.queue, self.queue.records(arm)
        if queue.searching(arm) or queue.due(arm) or not all(r.finished for r in records):
            return
        try:
            retention.prune(records, selection.Rule.of(self.config.as_dict()), self.config.checkpoints, self.folder)
        except OSError as error:
            self.display.message(f"{arm}: checkpoints that are not needed stay: {error}")

    def _tick(self, last: bool = False) -> None:
        if last or self.display.wants():
            states = outlook(self.queue)
            self.display.show(states, seconds_left(states, self.resources.slots))


def _folder(root: Path, config: StudyConfig) -> Path:
    folder = root / config.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the root must be a folder that can be written, but {root}: {error.strerror}; choose another with --root."
        ) from error
    if object_store.mirror_of(folder) is not None:
        object_store.check(folder)
        mlflow_store(root, config.mlflow.tracking_uri)  # or one line why other machines cannot reach its runs
    return folder


def _stores(config: StudyConfig, folder: Path, display: Progress) -> tuple[dict[str, str], dict[str, Manifest]]:
    """Return each dataset's store, an embedded one's built now where it is missing, and its manifest."""
    from balance_tune.studies.data.stores import store_of

    stores, manifests = {}, {}
    for name in config.datasets:
        stores[name], manifests[name] = store_of(name, config.data.stores, folder, display.message)
    return stores, manifests


def _warm_points(config: StudyConfig, arms: Sequence[Arm], root: Path) -> dict[str, list[Params]]:
    """Return the best points of another study for the same arms, as far as they lie in the spaces of this one."""
    other = config.search.warm_start
    if other is None:
        return {}
    rule = selection.Rule.of(config.as_dict())
    object_store.fetched(root / other / DATABASE)
    points: dict[str, list[Params]] = {}
    records = read_records(root / other)
    for arm in arms:
        ranked = selection.candidates([r for r in records if r.arm == arm.name], rule)
        points[arm.name] = [
            p.params for p in ranked if not p.default and p.value is not None and arm.space.contains(p.params)
        ]
    return points


def _longest(arm: Arm) -> int:
    """Return the epochs of the arm's longest possible trial."""
    high = next((p.high for p in arm.space.parameters if p.name == "training.epochs"), None)
    return int(high) if high is not None else arm.epochs(arm.space.defaults())


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield a folder for what Tune writes and a study never reads, worker groups too; it is removed afterwards."""
    path = folder / SCRATCH
    path.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(object_store.Away):  # why it ended is told already
            object_store.clear(path)
