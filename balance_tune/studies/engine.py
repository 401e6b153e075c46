"""Runs a study: starts it, resumes it or extends it, up to leaderboard, report and MLflow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from balance_tune import shadows, timeouts
from balance_tune.datasets.redraw import redrawn_split_hash
from balance_tune.errors import UserError
from balance_tune.studies.cluster.devices import Devices
from balance_tune.studies.cluster.importable import check_modules, check_workers
from balance_tune.studies.cluster.preflight import preflight
from balance_tune.studies.cluster.ray_address import check_ray_address
from balance_tune.studies.cluster.ray_cluster import GPU_SHARE, TrialResources, ray_for, remote, study_resources
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.config.study_method import BASELINE
from balance_tune.studies.data.stores import stores_of
from balance_tune.studies.early_stopping.pruner import Pruner, RuleError
from balance_tune.studies.early_stopping.pruning_log import pruning_log_of
from balance_tune.studies.execution import retention
from balance_tune.studies.execution.limits import Limits
from balance_tune.studies.execution.sealed import Sealed
from balance_tune.studies.loading import load_config
from balance_tune.studies.monitor.estimate import outlook, seconds_left
from balance_tune.studies.monitor.measured_baseline import with_measured_baseline
from balance_tune.studies.monitor.progress import Kind, Progress, progress_of
from balance_tune.studies.protocol import provenance, selection
from balance_tune.studies.protocol.arms import Arm, arms_of, check_models, trial_config
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.own_names import own_names
from balance_tune.studies.protocol.warm_start import warm_points
from balance_tune.studies.results import exports, leaderboard, report, tables
from balance_tune.studies.search.study_queue import Params, StudyQueue
from balance_tune.studies.signals import STOPPED, Interruption
from balance_tune.studies.storage import durable, trial_file
from balance_tune.studies.storage.database import check_answers, connect, shared_database
from balance_tune.studies.storage.exclusive import Exclusive, exclusive
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.object_store import StoreUnavailable
from balance_tune.studies.storage.records import Phase, State, read_records
from balance_tune.studies.storage.study_folder import ROOT, StudyFolder, root_folder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.study_result import Ending, StudyResult
from balance_tune.studies.tracking import tracker as tracking
from balance_tune.studies.tracking.backend import store_of as mlflow_store
from balance_tune.studies.tracking.memory import CACHE
from balance_tune.studies.tracking.origin import origin_of
from balance_tune.studies.wording import one_line
from balance_tune.tasks import Objective

SCRATCH = ".tune"


def run_study(
    config: StudyConfig | Mapping[str, Any] | Path | str,
    *,
    root: Path | str | None = None,
    progress: Kind = "auto",
    callbacks: Sequence[Any] = (),
    on_leaderboard: Callable[[list[leaderboard.LeaderboardRow]], None] = lambda rows: None,
    retry_failed: bool = False,
) -> StudyResult:
    """Run a study, go on with one that was interrupted, extend a finished one, or just return its leaderboard.

    The first Ctrl-C or SIGTERM stops cleanly: the result then has the state "interrupted".

    Args:
        config: a study, a mapping of the same shape, or the path of a study file.
        root: the folder of all studies, or the URI of an object store (default: $BALANCE_TUNE_ROOT, else ./studies).
        progress: how progress is shown on standard error: "auto", "live", "plain", "json" or "none".
        callbacks: `ray.tune.Callback`s of your own.
        on_leaderboard: called with the rows as soon as the report is written, before MLflow is waited for.
        retry_failed: whether trials that failed run again.

    Returns:
        The leaderboard, the folder, and how the run ended.

    Raises:
        UserError: one line, before anything has started: the study file is wrong, the root cannot be written, another
            driver runs this study, or code, data or file no longer are what the study was begun with.
    """
    timeouts.check()
    check_ray_address()
    place = root_folder(str(root or os.environ.get(ROOT) or "studies"), driver=True)
    config = config if isinstance(config, StudyConfig) else load_config(config, root=place)
    folder = _folder(place, config)
    check_answers(folder.path)
    check_modules(own_names(config))
    hidden = shadows.hidden_by(os.getcwd())  # Ray's workers look there first
    if hidden is not None:
        raise UserError(shadows.sentence(hidden))
    try:
        with exclusive(folder) as lock:
            _download(folder)
            display = progress_of(progress)
            try:
                with Interruption(display.message) as interruption:
                    study = _Study(config, folder, display, interruption, callbacks, lock, on_leaderboard, retry_failed)
                    return study.run()
            finally:
                display.close()
    except StoreUnavailable as error:
        return StudyResult([], folder.path, "halted", str(error))


class _Study:
    """One run of a study by one driver."""

    def __init__(
        self,
        config: StudyConfig,
        folder: StudyFolder,
        display: Progress,
        interruption: Interruption,
        callbacks: Sequence[Any],
        lock: Exclusive,
        on_leaderboard: Callable[[list[leaderboard.LeaderboardRow]], None],
        retry_failed: bool = False,
    ) -> None:
        self.on_leaderboard = on_leaderboard
        config = with_measured_baseline(config, folder, display.message)
        self.config, self.folder, self.display, self.interruption = config, folder, display, interruption
        self.callbacks = list(callbacks)
        durable.sweep(folder.path)
        shutil.rmtree(folder.path / SCRATCH, ignore_errors=True)  # of a driver that was killed
        self.arms = arms_of(config)
        check_models(config, self.arms)
        self.stores, self.manifests = stores_of(config, folder.parent / "data", display.message)
        extensions = provenance.begin_or_check(folder, config, self.manifests)
        for phrase in extensions:
            display.message(f"extended: {phrase}")
        for name, manifest in self.manifests.items():  # the report reads them, wherever the data lies by then
            folder.write(f"data/{name}.json", manifest.to_json())
        self.resources = TrialResources(config.resources.cpus_per_trial, 0.0, config.resources.workers, 1)
        self.resources_by_dataset: dict[str, TrialResources] = {}
        self.devices = Devices(display.message)
        self.has_run_trials = False
        self.storage = open_storage(folder)
        lock.extend()
        self.pruning_log = pruning_log_of(folder)
        self.tracker = tracking.Tracker(config, folder)
        self.queue = StudyQueue(
            config,
            self.arms,
            self.storage,
            self.pruning_log,
            folder,
            configure=self._configure,
            retry_failed=retry_failed,
            warm=warm_points(config, self.arms, folder.parent),
            on_trial_end=self._on_trial_end,
        )
        self.limits = Limits(config.limit, self.queue.device_seconds)

    def run(self) -> StudyResult:
        self._add_configurations()
        try:
            state, reason = self._work()
        except STOPPED:
            state, reason = "interrupted", "a second signal, or one while nothing was running"
        except BaseException as error:
            if not self.interruption.requested or not isinstance(error, Exception):
                self.tracker.interrupt()
                raise
            state, reason = "interrupted", f"a signal, on which Ray failed: {error}"  # it got the signal too
        finally:
            self.interruption.cancel_timeout()
            self.pruning_log.close()
        rows = self._report(state)
        failed = {row.arm: row.failure for row in rows if row.failure}
        if state == "done" and failed:
            arm = next((arm for arm in failed if arm.endswith(f"/{BASELINE}")), next(iter(failed)))
            others = f", like {', '.join(name for name in failed if name != arm)}" if len(failed) > 1 else ""
            state, reason = "failed", f"{arm}{others} has nothing to compare: {failed[arm]}"
        return StudyResult(rows, self.folder.path, state, reason)

    def _work(self) -> tuple[Ending, str]:
        searched = self.queue.is_finished()
        if searched and not self._unsealed():
            return "done", ""
        self.has_run_trials = True
        with ray_for(self.config.resources) as cluster:
            self.interruption.install()
            self.resources, self.resources_by_dataset = study_resources(self.config, cluster)
            if remote():
                wrong = preflight(
                    self.folder, self.resources, self.config.resources.wait_minutes * 60, self.display.message
                )
                if wrong:
                    return "halted", wrong
            check_workers(own_names(self.config))
            if self.resources.gpus:
                wrong = self.devices.check()
                if wrong:
                    return "halted", wrong
                cluster = self.devices.of(cluster)
            share = self._share_of_gpu(cluster)  # on a node that preflight has waited for
            self.resources, self.resources_by_dataset = study_resources(self.config, cluster, share)
            ended = "" if searched else self._search()
            if self.interruption.requested:
                return "interrupted", "a signal"
            if ended and not self.limits.limit_reached():
                return "halted", ended
            self._seal()
            return ("limited", ended) if ended else ("done", "")

    def _share_of_gpu(self, cluster: Mapping[str, float]) -> float:
        """Return what `gpus_per_trial: auto` means here: measured before the first trial, and then the study's own."""
        from ray.exceptions import RayError

        from balance_tune.studies.cluster.gpu_sharing import fraction_of, measure_loads

        resources = self.config.resources
        if resources.gpus_per_trial != "auto" or resources.workers > 1 or not cluster.get("GPU"):
            return GPU_SHARE
        baselines = [arm for arm in self.arms if arm.baseline and self.resources_by_dataset[arm.dataset].gpus]
        configs = [self._configure(arm, arm.space.defaults(), "search", 0, self.config.seed) for arm in baselines]
        try:
            share = fraction_of(
                self.folder, lambda: measure_loads(configs, resources.cpus_per_trial, list(self.devices.left_out))
            )
        except RayError as error:
            cause = getattr(error, "cause", None) or error
            why = one_line(f"{type(cause).__name__}: {(str(cause).strip().splitlines() or ['no message'])[0]}")
            self.display.message(f"each trial gets {GPU_SHARE:g} of a GPU; it could not be measured: {why}")
            return GPU_SHARE
        self.display.message(
            f"each trial gets {share:g} of a GPU, as measured (`resources.gpus_per_trial` overrides it)"
        )
        return share

    def _search(self) -> str:
        """Run trials until nothing is due; return why it ended before, or nothing."""
        from balance_tune.studies.execution.tune_run import run_trials

        replicates = f" in {self.config.replicates} replicates" if self.config.replicates > 1 else ""
        self.display.message(
            f"{self.config.name}: {len(self.arms)} arms{replicates}, {self.resources.slots} trials at a time"
        )
        epochs = {cell: _longest(arm) for cell, arm in self.queue.cells.items()}
        search = self.config.search
        rule, objective = search.early_stopping, Objective(self.config.objective)
        try:
            pruner = Pruner(rule, epochs, self.pruning_log, objective, search.parallel)
        except RuleError as error:
            provenance.allow_correction(self.folder, rule.kind)
            return str(error).rstrip(".")
        self.tracker.start()
        with self.interruption.patient(), _scratch(self.folder) as scratch:
            ended = run_trials(
                self.queue,
                pruner,
                self.resources,
                scratch,
                warm=self.config.runner != "isolated",
                callbacks=self.callbacks,
                interrupted=lambda: self.interruption.requested,
                exhausted=self.limits.limit_reached,
                tick=self._tick,
                patience=self.config.resources.wait_minutes * 60,
                devices=self.devices if self.resources.gpus else None,
            )
        self.tracker.trials_over()
        if pruner.rule_failed:
            provenance.allow_correction(self.folder, rule.kind)
        return ended

    def _seal(self) -> None:
        """Evaluate every confirmed checkpoint that was not yet on the test rows."""
        from balance_tune.studies.execution.sealed import evaluate_all

        waiting = self._unsealed()
        if not waiting:
            return
        self.display.message(f"sealed test evaluation of {len(waiting)} checkpoints")
        trial, avoid = self.resources, list(self.devices.left_out)
        for one, outcome in evaluate_all(waiting, cpus=trial.cpus, gpus=trial.gpus, device=trial.device, avoid=avoid):
            if isinstance(outcome, Exception):
                self.display.message(f"{one.key}: not evaluated on test: {outcome}")
                continue
            one.folder.download()

    def _unsealed(self) -> list[Sealed]:
        pending = []
        for key, record in self.queue.confirmed_trials():
            dataset = self.queue.arms[key.arm].dataset
            one = Sealed(key, self.folder / str(record.attrs["folder"]), self.stores[dataset], self.config.missing.test)
            if not one.done:
                pending.append(one)
        return pending

    def _report(self, state: str) -> list[leaderboard.LeaderboardRow]:
        for cell in self.queue.cells:
            self._retain(cell)
        if state == "halted":  # nothing more can be written
            self.tracker.interrupt()
            return self._rows_if_known()
        if self.has_run_trials:
            self.folder.download()
        path = self.folder.path
        rows = leaderboard.build(self.folder)
        tables.write_files(path, rows)
        if self.has_run_trials or not (path / "report" / "index.html").is_file():
            report.write(path)
            exports.write(path)
        (self.folder / "report").upload_all()
        self.display.close()
        self.on_leaderboard(rows)
        if state in ("done", "limited"):
            self.tracker.finish(read_records(self.storage), self.display.show_wait)
        else:
            self.tracker.interrupt(self.display.show_wait)
        return rows

    def _rows_if_known(self) -> list[leaderboard.LeaderboardRow]:
        try:
            return leaderboard.build(self.folder.path)
        except UserError as error:  # the database may be what halted the study
            self.display.message(f"there is no leaderboard now: {error}")
            return []

    def _add_configurations(self) -> None:
        """Write the `trial.json` of trials without one, after an earlier version or a power cut."""
        arms = {arm.name: arm for arm in self.arms}
        for r in read_records(self.storage):
            arm, folder = arms.get(r.arm), self.folder / str(r.attrs.get("folder", ""))
            if not r.finished or arm is None or trial_file.read(folder.path) is not None or not folder.path.is_dir():
                continue
            if r.params.keys() == arm.space.defaults().keys():  # else the study file has changed since
                config = self._configure(arm, r.params, r.phase, r.number, r.seed or 0, r.replicate)
                trial_file.write(folder, config)

    def _configure(
        self, arm: Arm, params: Params, phase: Phase, number: int, seed: int, replicate: int = 0
    ) -> dict[str, Any]:
        config = trial_config(
            self.config,
            arm,
            params,
            phase=phase,
            number=number,
            seed=seed,
            study_folder=self.folder.path,
            store=self.stores[arm.dataset],
            replicate=replicate,
        )
        trial = self.resources_by_dataset.get(arm.dataset, self.resources)
        resources: dict[str, Any] = {"cpus": trial.cpus, "gpus": trial.gpus}
        if trial.gpus and self.devices.left_out:
            resources["avoid"] = sorted(self.devices.left_out)
        manifest = self.manifests[arm.dataset]
        config |= {**resources, **origin_of(manifest), "scratch": (self.folder / SCRATCH).uri}
        if "split_seed" in config:
            config["split_hash"] = redrawn_split_hash(manifest, config["split_seed"])
        folder = self.folder / os.path.relpath(config["folder"], self.folder.path)
        return config if folder.location is None else {**config, "location": folder.location}

    def _on_trial_end(self, key: TrialKey, state: State, attrs: Mapping[str, Any]) -> None:
        self.display.trial_ended(key, state, attrs)
        if self.has_run_trials:  # not while the queue is still being opened
            self._retain(key.cell)

    def _retain(self, cell: str) -> None:
        """Delete the checkpoints that an arm needs no more in a replicate, once it is decided there."""
        queue, records = self.queue, self.queue.records(cell)
        if queue.is_searching(cell) or queue.due(cell) or not records or not all(r.finished for r in records):
            return
        rule = selection.Rule.of(self.config.as_dict()).at(records[0].arm, records[0].replicate)
        try:
            retention.prune(records, rule, self.config.checkpoints, self.folder)
        except OSError as error:
            self.display.message(f"{cell}: checkpoints that are not needed stay: {error}")

    def _tick(self, last: bool = False) -> None:
        if last or self.display.wants():
            states = outlook(self.queue)
            self.display.show(states, seconds_left(states, self.resources.slots))


def _folder(root: StudyFolder, config: StudyConfig) -> StudyFolder:
    """Return the study's folder after checking that it is writable and that the servers it needs answer.

    Raises:
        UserError: what is missing, before anything is made in the store.
    """
    folder = root / config.name
    folder.check_writable()
    if folder.store is not None:
        mlflow_store(root, config.mlflow.tracking_uri)
        connect(shared_database(root))
    return folder


def _download(folder: StudyFolder) -> None:
    """Download the study from the object store; the local cache about MLflow may be of an earlier study."""
    marker = folder.path / DATABASE
    before = marker.read_text() if marker.is_file() else ""
    folder.download()
    if before != (marker.read_text() if marker.is_file() else ""):
        (folder.path / CACHE).unlink(missing_ok=True)


def _longest(arm: Arm) -> int:
    """Return the epochs of the arm's longest possible trial."""
    high = next((p.high for p in arm.space.parameters if p.name == "training.epochs"), None)
    return int(high) if high is not None else arm.epochs(arm.space.defaults())


@contextmanager
def _scratch(folder: StudyFolder) -> Iterator[Path]:
    """Yield a temporary folder for files of Tune and Ray Train, which a study never reads."""
    scratch = folder / SCRATCH
    scratch.path.mkdir(exist_ok=True)
    try:
        yield scratch.path
    finally:
        shutil.rmtree(scratch.path, ignore_errors=True)
        with suppress(StoreUnavailable):  # why it ended is printed already
            scratch.clear_store()
