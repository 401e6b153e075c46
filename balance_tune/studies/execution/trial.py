"""One trial: the function that Ray Tune runs in its actor, and the training, which uses Ray only to report.

One worker: Ray Train's local mode inside the Tune actor, which stays warm from trial to trial (process, imports, data,
device). Several workers: a worker group of Ray Train. `work` is the same for both.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import faulthandler
import json
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

from balance_tune.datasets.store import sealed_test_part
from balance_tune.errors import UserError
from balance_tune.replicas import Replicas
from balance_tune.studies.cluster.placement import elsewhere
from balance_tune.studies.cluster.preemption import LOOK_EVERY, DrainCheck, Preempted
from balance_tune.studies.execution.process import configure_process, free, freeze_survivors, preserve_process_state
from balance_tune.studies.private_apis import cause_of, stop_event
from balance_tune.studies.protocol.reporting import BatchedReporter, Report
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.files import HISTORY
from balance_tune.studies.storage.object_store import StoreUnavailable
from balance_tune.studies.storage.study_folder import StudyFolder, trial_folder
from balance_tune.timeouts import seconds
from balance_tune.training.checkpoint import CARD, STATE, WEIGHTS, load_state, save_best, save_state
from balance_tune.training.errors import DeviceError, Diverged, Stopped, device_failed
from balance_tune.training.evaluation import predict
from balance_tune.training.jackknife import packed, unit_values
from balance_tune.training.loop import train
from balance_tune.training.run import Run
from balance_tune.training.setup import prepare

SILENCE = seconds("BALANCE_TUNE_SILENCE_S")
PIECE = "micro_batch.json"  # in the folder of a trial whose workers have met a device that is too small
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no other trial could write either


def run_trial(config: dict[str, Any]) -> None:
    """Run one trial inside a Ray Tune session; this is Tune's trainable.

    A trial that fails reports that instead of raising, because Tune never uses an actor again that raised.
    """
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")  # Tune's 2 s are too short for a slow end
    if config["workers"] > 1:
        _run_workers(config)
        return
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(_alone, train_loop_config=config, scaling_config=ScalingConfig(num_workers=0)).fit()


def _alone(config: dict[str, Any]) -> None:
    from ray import tune

    configure_process(int(config.get("cpus", 1)))
    draining = DrainCheck()
    _refuse(draining)
    work(config, BatchedReporter(tune.report, config["rung_epochs"]), stop=stop_event(), draining=draining)
    freeze_survivors()


def _run_workers(config: dict[str, Any]) -> None:
    from ray import train as ray_train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # Tune sees a report when Train polls: every 2 s
    os.environ.setdefault(
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", str(LOOK_EVERY)
    )  # Ray's 5 s are long for a short notice
    folder = Path(config["folder"])
    cpus, gpus = config.get("cpus", 1), config.get("gpus", 0)
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    trainer = TorchTrainer(
        _together,
        train_loop_config=config,
        scaling_config=ray_train.ScalingConfig(
            num_workers=config["workers"],
            use_gpu=bool(gpus),
            resources_per_worker=resources,
            label_selector=elsewhere(config.get("avoid", ())) or None,
        ),
        run_config=ray_train.RunConfig(
            name=f"{folder.name}-{tune.get_context().get_trial_id()}",
            storage_path=config["scratch"],
            callbacks=[TuneReportCallback()],
            failure_config=ray_train.FailureConfig(max_failures=2, max_preemption_failures=-1),
        ),
    )
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        state, cause = _blame(error)
        tune.report(_ending(config, 0, state, cause))


def _together(config: dict[str, Any]) -> None:
    from ray import train as ray_train

    configure_process(int(config.get("cpus", 1)))
    work(
        config,
        BatchedReporter(ray_train.report, config["rung_epochs"], every=0),
        replicas=Replicas(),
        draining=lambda: ray_train.get_preemption_info() is not None,  # all workers ask, and get one answer
    )


def work(
    config: Mapping[str, Any],
    report: Report,
    *,
    replicas: Replicas | None = None,
    stop: Callable[[], bool] = lambda: False,
    draining: Callable[[], bool] = lambda: False,
) -> None:
    """Train one trial and report after every epoch; go on from the last saved state where there is one.

    A report holds the epoch's metrics, "best_epoch" and "state": "running", or at the end "complete" (best.safetensors
    is written by then), "failed" with a "reason" (the trial's own fault, with more in failure.txt), "lost" (try again)
    or "halt" (nothing can be written any more). `report` may raise `SystemExit`: the trial was stopped. `stop` is
    asked before every step; where it is true, the trial ends without another report. Global state is restored.

    `config["reported"]` is the last epoch that is known of an interrupted trial. Those that were saved after it are
    reported first, with "replayed".

    `draining()` is asked after every epoch: whether a node of the trial is about to be taken away. The state is saved
    then, and the report says "draining".

    Raises:
        Preempted: `draining()`, with one worker; several are started elsewhere by Ray Train.
        DeviceError: the GPU failed; this process must end, since nothing can be done on it any more.
    """
    sealed = sealed_test_part() if config.get("protocol") != "paper" else contextlib.nullcontext()
    with preserve_process_state(), sealed, trial_folder(config) as folder:
        _work(config, folder, report, replicas or Replicas(), stop, draining)


def _work(
    config: Mapping[str, Any],
    folder: StudyFolder,
    report: Report,
    replicas: Replicas,
    stop: Callable[[], bool],
    draining: Callable[[], bool],
) -> None:
    epoch = 0
    try:
        # closed, because the exception that stops a trial would keep model and optimiser alive
        with _watch(), contextlib.closing(_attempts(config, folder, replicas, stop, draining)) as rows:
            for row in rows:
                epoch = int(row["epoch"])
                report(row)
                if row.get("draining") and replicas.world == 1:
                    raise Preempted(f"its node is drained after epoch {epoch}")
    except Stopped:
        return
    except Preempted:
        raise
    except Exception as error:
        if device_failed(error):
            if replicas.rank == 0:
                _write_down(folder, error)
            raise DeviceError(f"{_first_line(error)} ({_node()})") from None
        if replicas.world > 1 and not isinstance(error, Diverged):
            raise  # the other workers wait for this one; Ray Train starts all of them again
        ending = _ending(config, epoch, _outcome(error), error)
        if replicas.rank == 0 and not isinstance(error, Unreachable | StoreUnavailable):
            _write_down(folder, error)
        traceback.clear_frames(error.__traceback__)  # they hold the model, and the process lives on
        report(ending)


def _attempts(
    config: Mapping[str, Any],
    folder: StudyFolder,
    replicas: Replicas,
    stop: Callable[[], bool],
    draining: Callable[[], bool],
) -> Generator[dict[str, Any]]:
    """Yield the epochs. Where the device's memory is too small, resume from the last state with a quarter of the rows.

    The batch size stays (see `encode_in_pieces`); later rows have "micro_batch". Several workers leave a note in the
    folder and end: Ray Train starts all of them again.
    """
    reported, group = config.get("reported", 0), replicas.world > 1
    if group and (note := folder.download_file(PIECE)).exists():
        config = {**config, **json.loads(note.read_text())}
    try:
        for row in _epochs(config, folder, replicas, stop, draining):
            reported = row["epoch"]
            yield row
        return
    except torch.OutOfMemoryError as error:
        if "micro_batch" in config:
            raise
        smaller = {"micro_batch": max(1, config["training"]["batch_size"] // replicas.world // 4)}
        if group:
            folder.write_json(PIECE, smaller)
            raise
        traceback.clear_frames(error.__traceback__)
    free()
    yield from _epochs({**config, **smaller, "reported": reported}, folder, replicas, stop, draining)


def _epochs(
    config: Mapping[str, Any],
    folder: StudyFolder,
    replicas: Replicas,
    stop: Callable[[], bool],
    draining: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    _check_reachable(config)
    path = folder.path
    path.mkdir(parents=True, exist_ok=True)
    folder.download(lambda name: name in (STATE, HISTORY))
    run, modulation = prepare(config, replicas=replicas, stop=stop)
    done = load_state(run, modulation, path)
    if folder.store is not None and done > sum(1 for _ in durable.json_lines(path / HISTORY)):
        (path / STATE).unlink()  # an attempt that had not noticed its end wrote the history after another's state
        run, modulation = prepare(config, replicas=replicas, stop=stop)
        done = load_state(run, modulation, path)
    yield from _replayed(folder, config.get("reported", 0), done)
    first = replicas.rank == 0
    every = seconds("BALANCE_TUNE_SAVE_EVERY_S")
    with History(folder, done) if first else contextlib.nullcontext() as history:
        saved = time.monotonic()
        for metrics in train(run, modulation):
            last = run.context.epoch >= run.context.epochs
            row: dict[str, Any] = {**metrics, "best_epoch": int(run.best.metrics["epoch"])}
            if "micro_batch" in config:
                row["micro_batch"] = config["micro_batch"]
            if not math.isfinite(row[config["objective"]]):
                raise Diverged(f"{config['objective']} is {row[config['objective']]} in epoch {row['epoch']}")
            if not last and draining():
                row["draining"] = True
            if history is not None:
                history.append(row)
                if last:
                    history.sync()
                    save_best(run, path)
                    folder.upload(WEIGHTS, CARD)
                elif "draining" in row or time.monotonic() - saved >= every:
                    history.sync()
                    save_state(run, modulation, path)
                    folder.upload(STATE)  # after the history, which must reach at least as far
                    saved = time.monotonic()
            units = {"val_units": _validation_units(run)} if last and first and config.get("phase") == "select" else {}
            yield {**row, **units, "state": "complete" if last else "running"}


def _validation_units(run: Run) -> str | None:
    """Return what validation rows or groups contribute to the objective at the best epoch, for the choice of a point.

    None where there are not at least two.
    """
    model = copy.deepcopy(run.context.model)
    model.load_state_dict(run.best.weights)
    answers, _ = predict(model, run.validation)
    metric = run.best.objective.metric
    values = unit_values(model.task, answers, run.validation.labels, run.validation.groups, (metric,))
    return packed(values).get(metric)


def _replayed(folder: StudyFolder, reported: int, epochs_done: int) -> Iterator[dict[str, Any]]:
    """Yield epochs that were saved but not reported when a process died; early stopping may have a rung at one."""
    for row in durable.json_lines(folder.path / HISTORY):
        if reported < row["epoch"] <= epochs_done:
            yield {**row, "draining": False, "state": "running", "replayed": True}


def _refuse(draining: Callable[[], bool]) -> None:
    """Refuse to begin a trial on a node that is about to be taken away."""
    if draining():
        raise Preempted("its node is drained before it begins")


def _check_reachable(config: Mapping[str, Any]) -> None:
    """Raise `Unreachable` on a node that does not see the driver's folder, before the trial creates one there."""
    scratch = config.get("scratch")
    if scratch and "location" not in config and not Path(scratch).is_dir():
        raise Unreachable(
            f"{scratch} is not on {platform.node()}; put --root on a folder that all nodes see under the same path"
        )


class Unreachable(OSError):
    """The study's folder is not visible on this node, so no trial can run here."""


class History:
    """The trial's metrics, a JSON line an epoch, in history.jsonl; what a resumed trial repeats is cut off first."""

    def __init__(self, folder: StudyFolder, done: int) -> None:
        self.path, self._folder = folder.path / HISTORY, folder
        self._file: IO[bytes] | None = None
        self._uploaded = True
        durable.cut_torn_line(self.path)
        rows = list(durable.json_lines(self.path))
        earlier = [row for row in rows if row["epoch"] <= done]
        if len(earlier) < len(rows):
            folder.write(HISTORY, "".join(json.dumps(row) + "\n" for row in earlier))

    def __enter__(self) -> History:
        self._file = self.path.open("ab", buffering=0)
        return self

    def append(self, row: Mapping[str, Any]) -> None:
        """Write an epoch's row."""
        assert self._file is not None
        durable.append(self._file, json.dumps(row) + "\n", sync=False)
        self._uploaded = False

    def sync(self) -> None:
        """Flush the rows to disk, and upload them where the study is in an object store."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._folder.upload(HISTORY)
        self._uploaded = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if not self._uploaded and not isinstance(error, StoreUnavailable):
            self._folder.upload(HISTORY)


def _outcome(error: Exception) -> str:
    """Return what an exception means: the trial failed, the trial was lost, or no trial can go on."""
    if isinstance(error, Unreachable | StoreUnavailable) or (isinstance(error, OSError) and error.errno in FULL):
        return "halt"
    return "lost" if isinstance(error, MemoryError | OSError) else "failed"


def _blame(error: Exception) -> tuple[str, BaseException]:
    """Return how a trial ended whose worker group failed, and the exception that caused it."""
    from ray.exceptions import RayError

    failures: Mapping[int, Exception] = getattr(error, "worker_failures", None) or {}
    causes = [cause_of(failure) for _, failure in sorted(failures.items())]
    nowhere = [cause for cause in causes if isinstance(cause, Unreachable | StoreUnavailable)]
    if nowhere:
        return "halt", nowhere[0]
    device = [cause for cause in causes if isinstance(cause, DeviceError)]
    if device:  # the others then fail to reach this worker
        return "lost", min(device, key=lambda cause: "NCCL" in str(cause))
    own = [cause for cause in causes if not isinstance(cause, RayError | MemoryError | OSError)]
    return ("failed", own[0]) if own else ("lost", (causes or [error])[0])


def _ending(config: Mapping[str, Any], epoch: int, state: str, error: BaseException) -> dict[str, Any]:
    kind = (
        "" if isinstance(error, Diverged | UserError | Unreachable | StoreUnavailable) else f"{type(error).__name__}: "
    )
    reason = f"{kind}{_first_line(error)}"[:500]
    return {config["objective"]: math.nan, "epoch": epoch, "state": state, "reason": reason}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def _node() -> str:
    """Return the id of this node in the form that the driver searches for in a lost trial's message."""
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "0"
    return f"node {node} on {platform.node()}"


def _write_down(folder: StudyFolder, error: Exception) -> None:
    with contextlib.suppress(OSError):  # the report of the failure matters more than its details
        folder.write("failure.txt", "".join(traceback.format_exception(error)))


@contextlib.contextmanager
def _watch() -> Iterator[None]:
    """Write the stack of a hung process to its log, shortly before the scheduler ends it."""
    if sys.__stderr__ is not None:
        with contextlib.suppress(ValueError, OSError):  # a stderr without a file descriptor
            faulthandler.dump_traceback_later(0.9 * SILENCE, repeat=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
