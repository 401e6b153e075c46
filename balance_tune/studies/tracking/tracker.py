"""What the study tells MLflow, and when: each method takes a few facts, queues them, and returns."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from balance_tune.studies.protocol.reporting import epochs_of
from balance_tune.studies.protocol.selection import best_trial
from balance_tune.studies.storage.files import HISTORY
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.artifacts import checkpoint_files, study_files
from balance_tune.studies.tracking.backend import quiet_environment, store_of
from balance_tune.studies.tracking.courier import Courier
from balance_tune.studies.tracking.delivery import NOTE, told_in
from balance_tune.studies.tracking.live import Live
from balance_tune.studies.tracking.memory import Memory, digest, digest_of
from balance_tune.studies.tracking.note import note
from balance_tune.studies.tracking.origin import NAMED, code_version, origin_tags
from balance_tune.studies.tracking.outbox import Outbox
from balance_tune.studies.tracking.pictures import CURVES, curves_of_arm, trial_pictures
from balance_tune.studies.tracking.runs import (
    STATUS,
    TAG,
    Row,
    RunKey,
    Update,
    cut,
    flatten,
    metrics_of,
    params_of,
    params_of_study,
)
from balance_tune.studies.tracking.writer_process import Order

if TYPE_CHECKING:
    from ray.tune import Callback

    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.protocol.arms import Arm
    from balance_tune.studies.results.leaderboard import LeaderboardRow
    from balance_tune.studies.storage.records import TrialRecord

QUEUE = "mlflow.queue"
GRACE = 30.0  # seconds without any progress after which a closing study leaves the rest to its next run
TRIAL = "trial.json"  # among a trial's artifacts
PLACES = (
    "folder",
    "location",
    "store",
    "scratch",
)  # of a trial's configuration: where it ran

P = ParamSpec("P")
logger = logging.getLogger(__name__)


def harmless(method: Callable[Concatenate[Tracker, P], None]) -> Callable[Concatenate[Tracker, P], None]:
    """Log what a method of the tracker raises, once, instead of raising it: a mirror must not end what it mirrors."""

    name = method.__name__

    def wrapped(tracker: Tracker, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(tracker, *args, **kwargs)
        except Exception:
            if name not in tracker._failed:
                logger.exception("MLflow misses something (%s); the study goes on.", name)
            tracker._failed.add(name)

    return functools.update_wrapper(wrapped, method)


class Tracker:
    """Mirrors one study into MLflow: a run for the study, below it one an arm, below that one a trial.

    The study folder holds the truth; nothing here decides anything, waits for MLflow (but `finish`, a bounded time), or
    raises. Nothing is sent, and no writer started, before there is something to tell.
    """

    def __init__(
        self,
        config: StudyConfig,
        study_folder: StudyFolder | Path,
        arms: Sequence[Arm],
        manifests: Mapping[str, Manifest],
        *,
        linger: float = 10.0,
    ) -> None:
        """Prepare to mirror `arms`; `manifests` holds each dataset's. Epochs of a running trial wait `linger` seconds.

        Raises:
            UserError: the address of the store cannot be one.
        """
        self._config, self._study, self._linger = config, StudyFolder.of(study_folder), linger
        self._folder = self._study.path
        self._arms = {arm.name: arm for arm in arms}
        self._manifests = manifests
        self._store = store_of(self._study.parent, config.mlflow.tracking_uri)
        self._memory = Memory.of(self._study)
        self._outbox: Outbox | None = None
        self._live: dict[RunKey, Live] = {}
        self._told = False  # whether this process had anything to tell
        self._failed: set[str] = set()
        self._origin = origin_tags()

    @property
    def callback(self) -> Callback:
        """The hooks for Ray Tune's run configuration."""
        from balance_tune.studies.tracking.hooks import Hooks

        return Hooks(self)

    @property
    def trouble(self) -> str:
        """Why MLflow does not take what it is sent, in a few words; empty while it does."""
        return self._outbox.trouble if self._outbox else ""

    @property
    def writer_pid(self) -> int | None:
        """The process that writes to MLflow; None while there is none."""
        return self._outbox.pid if self._outbox else None

    @harmless
    def begin(self) -> None:
        """Tell of the study and its arms, so that MLflow is ready by the time the first trial has something to tell."""
        self._opened()

    @harmless
    def trial_started(self, trial: Mapping[str, Any]) -> None:
        """Tell of a trial that starts, or starts again after a fault; `trial` is its configuration."""
        key = RunKey(trial["arm"], trial["phase"], trial["number"])
        self._live[key] = Live(self._live[key].rows if key in self._live else [])
        tags = self._arm_tags(key.arm) | {TAG + "state": "running", TAG + "seed": str(trial["seed"])}
        tags[TAG + "device"] = "cuda" if trial.get("gpus") else "cpu"
        self._put(
            Update(
                key,
                _now(),
                tags=tags,
                params=params_of(trial),
                rows=_earlier(trial),
                documents={TRIAL: self._trial(trial)},
                inputs=_inputs(key),
                status="RUNNING",
            )
        )

    @harmless
    def trial_reported(self, trial: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Tell of the epochs in a report, of short ones later (see `Live`); a report of a failure may hold none."""
        now = _now()
        rows = [Row(int(row["epoch"]), now, metrics) for row in epochs_of(result) if (metrics := metrics_of(row))]
        if not rows:
            return
        key = RunKey(trial["arm"], trial["phase"], trial["number"])
        live = self._live.get(key)
        if live is None:  # Tune may tell the last report after the trial's end
            self._put(Update(key, now, rows=rows))
            return
        live.heard(rows, str(result.get("hostname", "")))
        if live.due:
            self._put(live.take(Update(key, now)))

    @harmless
    def trial_finished(self, arm: Arm | str, phase: str, number: int, state: str, attrs: Mapping[str, Any]) -> None:
        """Tell how a trial ended ("complete", "pruned", "failed"), as Optuna is told; `attrs` are its own there."""
        key = RunKey(_name(arm), phase, number)
        self._put(self._live.pop(key, Live()).take(self._ending(key, state, attrs)))

    @harmless
    def sealed(self, arm: Arm | str, number: int, metrics: Mapping[str, Any], folder: Path) -> None:
        """Tell the sealed test evaluation of a confirmation trial, with pictures of what lies in its folder."""
        now = _now()
        key, row = RunKey(_name(arm), "confirm", number), Row(0, now, _test_metrics(metrics))
        self._put(Update(key, now, summary=[row], documents=self._pictures(key, folder)))

    @harmless
    def reconcile(self, records: Iterable[TrialRecord]) -> None:
        """Write all that Optuna knows and MLflow does not; to be called once, before the study goes on."""
        records = [r for r in records if r.finished]
        if self._in(records=digest_of(records)):
            return
        for r in records:
            key = RunKey(r.arm, r.phase, r.number)
            update = self._ending(key, r.state, r.attrs)
            update.backfill = True
            update.params = self._params(r)
            update.inputs = _inputs(key)
            if (trial := self._config_of(r)) is not None:
                update.documents[TRIAL] = self._trial(trial)
            if r.attrs.get("folder"):
                update.history = str(self._folder / str(r.attrs["folder"]) / "history.jsonl")
            sealed = self._folder / str(r.attrs.get("folder", "")) / "test.json"
            if r.phase == "confirm" and sealed.is_file():
                update.summary.append(Row(0, update.at, _test_metrics(json.loads(sealed.read_text()))))
                update.documents |= self._pictures(key, sealed.parent)
            self._put(update)

    @harmless
    def finish(
        self,
        rows: Sequence[LeaderboardRow],
        report_folder: Path,
        records: Sequence[TrialRecord] | None = None,
    ) -> None:
        """Store the leaderboard, the report and each arm's best checkpoint, register the champions, and close.

        Waits until MLflow has everything, but not longer than it makes progress; what is left is sent by the next run.
        """
        from balance_tune.studies.storage.records import read_records

        records = list(read_records(self._folder) if records is None else records)
        done, board = digest_of(records), digest([dict(row) for row in rows])
        if not self._told and self._in(records=done, leaderboard=board):
            return
        self._tell_results(rows, Path(report_folder), records)
        if self._close():
            self._memory.store, self._memory.records, self._memory.leaderboard = self._store.shown, done, board
            self._memory.save()

    @harmless
    def interrupt(self) -> None:
        """Tell that the study stops here and may go on later, and close."""
        if self._told:
            now, tags = _now(), {TAG + "state": "interrupted"}
            for key in [*sorted(self._live, key=str), *map(RunKey, self._arms), RunKey()]:
                update = Update(key, now, tags=dict(tags), status=STATUS["interrupted"])
                self._put(self._live.get(key, Live()).take(update))
        self._close()

    def _tell_results(
        self, rows: Sequence[LeaderboardRow], report_folder: Path, records: Sequence[TrialRecord]
    ) -> None:
        from balance_tune.studies.tracking.champions import candidates

        now = _now()
        for row in rows:
            numbers = {f"leaderboard/{name}": value for name, value in row.mlflow_metrics().items()}
            best = best_trial(records, row.arm, row.params, row.objective)
            tags = {TAG + "state": "complete", TAG + "params": cut(json.dumps(row.params))}
            files: list[tuple[str, str]] = []
            if best is not None:
                tags[TAG + "best"] = RunKey(best.arm, best.phase, best.number).name(self._config.name)
                files = checkpoint_files(self._study / str(best.attrs.get("folder", "")))
            own = [r for r in records if r.arm == row.arm]
            update = Update(RunKey(row.arm), now, tags=tags, files=files, status="FINISHED")
            update.summary = [Row(0, now, numbers)]
            update.documents = {CURVES: curves_of_arm(own, self._config.objective)}
            self._put(update)
        tags = {TAG + "state": "complete", NOTE: cut(note(self._config, self._manifests, report_folder))}
        files = study_files(self._folder, report_folder)
        self._put(Update(RunKey(), now, tags=tags, files=files, status="FINISHED"))
        for dataset, contenders in candidates(rows, records, self._manifests).items():
            self._put_task({"task": "champion", "dataset": dataset, "candidates": contenders})

    def _in(self, **digests: str) -> bool:
        """Whether the store is known to hold what has these digests."""
        if self._memory.store != self._store.shown or (self._store.file and not self._store.file.exists()):
            return False
        return all(getattr(self._memory, name) == value for name, value in digests.items())

    def _ending(self, key: RunKey, state: str, attrs: Mapping[str, Any]) -> Update:
        now, tags = _now(), self._arm_tags(key.arm) | {TAG + "state": state}
        for name in ("seed", "reason", "point", "default", "requeued_from", "requeued_as", "lost", "sources"):
            value = attrs.get(name)
            if value is not None and value is not False:
                tags[TAG + name] = cut(value if isinstance(value, str) else json.dumps(value))
        best, objective = attrs.get("metrics") or {}, self._config.objective
        found = {f"trial/best/{objective}": best.get(objective), "trial/best_epoch": attrs.get("best_epoch")}
        found["trial/device_seconds"] = attrs.get("device_seconds")
        numbers = {name: float(value) for name, value in found.items() if value is not None}
        summary = [Row(int(attrs.get("best_epoch") or 0), now, numbers)] if numbers else []
        return Update(key, now, tags=tags, summary=summary, status=STATUS[state])

    def _params(self, record: TrialRecord) -> dict[str, str]:
        trial = self._config_of(record)
        return dict(flatten(record.params)) if trial is None else params_of(trial)

    def _config_of(self, record: TrialRecord) -> dict[str, Any] | None:
        from balance_tune.studies.protocol.arms import trial_config

        arm = self._arms.get(record.arm)
        if arm is None or record.params.keys() != arm.space.defaults().keys():  # told by an older study file
            return None
        return trial_config(
            self._config, arm, record.params, phase=record.phase, number=record.number, seed=record.seed or 0,
            study_folder=self._folder, store=self._folder,
        )  # fmt: skip

    def _trial(self, trial: Mapping[str, Any]) -> str:
        """Return a trial's configuration as it is stored: what it takes to train it again, on any machine."""
        manifest = self._manifests.get(trial["dataset"])
        data = {"data_hash": manifest.data_hash, "split_hash": manifest.split_hash} if manifest is not None else {}
        versions = {name: tag for name in NAMED if (tag := self._origin.get(TAG + name)) is not None}
        portable = {name: value for name, value in trial.items() if name not in PLACES}
        return json.dumps({**portable, **data, "code_version": code_version(), "versions": versions}, indent=1) + "\n"

    def _pictures(self, key: RunKey, folder: Path) -> dict[str, str]:
        manifest = self._manifests.get(key.arm.partition("/")[0])
        return trial_pictures(folder, manifest.classes) if manifest is not None else {}

    def _arm_tags(self, name: str) -> dict[str, str]:
        dataset, _, method = name.partition("/")
        tags = {TAG + "dataset": dataset, TAG + "method": method, TAG + "code_version": code_version()}
        manifest = self._manifests.get(dataset)
        if manifest is not None:
            tags |= {TAG + "split_hash": manifest.split_hash, TAG + "data_hash": manifest.data_hash}
        return tags

    def _put(self, update: Update) -> None:
        self._opened().put(update.to_json())

    def _put_task(self, task: dict[str, Any]) -> None:
        self._opened().put(task)

    def _opened(self) -> Outbox:
        """Return the outbox with its writer at work, after telling it of the study and its arms the first time."""
        if self._outbox is None:
            quiet_environment()  # for the writer's process, and for whoever imports MLflow here
            self._outbox = Outbox(self._folder / QUEUE, Courier(self._order()))
            self._introduce(self._outbox)
            self._outbox.start()
            self._told = True
        return self._outbox

    def _order(self) -> Order:
        return Order(
            queue=str(self._folder / QUEUE),
            store=self._store,
            study=self._config.name,
            study_id=self._memory.study_id,
            folder=str(self._folder),
            manifests={name: manifest.to_json() for name, manifest in self._manifests.items()},
            location=self._study.location,
            linger=self._linger,
        )

    def _introduce(self, outbox: Outbox) -> None:
        now, running = _now(), {TAG + "state": "running"}
        tags = self._origin | running
        tags |= {TAG + "objective": self._config.objective, TAG + "protocol": self._config.protocol}
        params = params_of_study(self._config.as_dict())
        files = [(str(self._folder / "study.yaml"), "study.yaml")]
        files = files if (self._folder / "study.yaml").is_file() else []
        inputs = list(self._manifests)
        update = Update(RunKey(), now, tags=tags, params=params, files=files, inputs=inputs, status="RUNNING")
        outbox.put(update.to_json())
        for at, (name, arm) in enumerate(self._arms.items(), start=now + 1):  # the run table keeps the study's order
            tags = running | self._arm_tags(name)
            outbox.put(Update(RunKey(name), at, tags=tags, inputs=[arm.dataset], status="RUNNING").to_json())

    def _close(self) -> bool:
        """Send what is left and stop; whether all of it arrived."""
        if self._outbox is None:
            return True
        try:
            done = self._outbox.stop(GRACE)
        except KeyboardInterrupt:  # whoever does not want to wait need not
            done = False
        if not done:
            logger.warning(
                "MLflow at %s lacks some of the study; it stays in %s, and the next `balance-tune run` sends it.",
                self._store.shown, self._folder / QUEUE,
            )  # fmt: skip
        whole = done and not self._outbox.lost and not self._failed
        self._outbox = None
        return whole


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _inputs(key: RunKey) -> list[str]:
    """Return the datasets to be named as a run's inputs; search trials, of which there are many, have them as tags."""
    return [key.arm.partition("/")[0]] if key.phase == "confirm" else []


def _earlier(trial: Mapping[str, Any]) -> list[Row]:
    """Return the epochs of a trial that goes on; what was not sent of them went with the driver."""
    if not trial.get("reported"):
        return []
    return told_in(StudyFolder.at(Path(trial["folder"]), trial.get("location")).download_file(HISTORY), _now())


def _name(arm: Arm | str) -> str:
    return arm if isinstance(arm, str) else arm.name


def _test_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    named = {name if name.startswith("test/") else f"test/{name}": value for name, value in metrics.items()}
    return {name: value for name, value in named.items() if isinstance(value, float)}
