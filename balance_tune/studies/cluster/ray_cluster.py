"""Starts or joins the Ray that a study runs on, and computes how many trials run at a time."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.cluster.capacity import reach
from balance_tune.studies.cluster.own_ray import (
    LOOPBACK,
    is_on_loopback,
    modules_for_workers,
    private_token,
    ray_folder,
    shared_memory_free,
    small_shared_memory,
)
from balance_tune.studies.cluster.ray_address import VARIABLE, check_ray_address, joins_cluster, ray_host
from balance_tune.studies.config.schema import Resources, StudyConfig
from balance_tune.studies.private_apis import on_loopback
from balance_tune.studies.wording import one_line

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # csv, json and tensorboard files: a third of the driver's time
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own snapshots: a study resumes from Optuna's storage alone
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the study's own does more
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ALONE = {  # for a Ray that one study starts for itself, without a dashboard: what only the dashboard would show
    "RAY_task_events_report_interval_ms": "0",
    "RAY_metrics_report_interval_ms": "60000",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
}
GPU_SHARE = 0.25  # of a GPU, for a trial with `gpus_per_trial: auto`, before it has been measured (`sharing`)
HEAD = "node:__internal_head__"  # a resource that only the head has
OBJECT_STORE = 100 * 2**20  # bytes; trials read their data from mapped files, not from Ray


@dataclass(frozen=True)
class TrialResources:
    """What a trial takes, and how many trials go at a time."""

    cpus: int
    gpus: float
    workers: int
    slots: int

    @property
    def device(self) -> str:
        """The kind of device that the trial is trained on."""
        return "cuda" if self.gpus > 0 else "cpu"


class _Log(RotatingFileHandler):
    """A log file that never stops the driver: lines are dropped while the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging calls it so
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still in its buffer
            super().close()


@contextlib.contextmanager
def ray_log(path: Path) -> Iterator[None]:
    """Redirect the logs of Ray Tune and Ray Train on the driver to a file; the study prints its own messages."""
    handler = _Log(path, maxBytes=2**20, backupCount=2, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # a line a trial: Tune's own result files are off
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
        handler.close()


@contextlib.contextmanager
def ray_for(resources: Resources, *, cpus: int | None = None) -> Iterator[Mapping[str, float]]:
    """Yield the resources of a Ray that is up: the one of this process, the cluster at RAY_ADDRESS, or one of our own.

    Of a cluster that grows, the resources are the largest that it may reach.
    Only one that was started here is shut down in the end; it has `cpus`, by default all of the machine's.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield reach(ray.cluster_resources())
        return
    check_ray_address()
    joined = joins_cluster()
    several = resources.workers > 1
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if several:  # so that the cleaner of a stopped trial's worker group finds this cluster and no other
        options["runtime_env"] = {"worker_process_setup_hook": pin}
    if not joined:
        options |= {"address": "local", "include_dashboard": several, "object_store_memory": OBJECT_STORE}
        options |= {"_node_ip_address": LOOPBACK, "_temp_dir": ray_folder()}
        private_token()
        note = small_shared_memory(shared_memory_free(), OBJECT_STORE) if several else None
        if note is not None:  # trials of one worker hardly use it
            logging.getLogger(__name__).warning(note)
        options["num_cpus"] = cpus
        for name, value in {} if several else ALONE.items():
            os.environ.setdefault(name, value)
    alone = is_on_loopback(*ray_host()) if joined else True
    with on_loopback() if alone else contextlib.nullcontext():
        with modules_for_workers() if not joined else contextlib.nullcontext():
            start(options)
        try:
            yield reach(ray.cluster_resources()) if joined else ray.cluster_resources()
        finally:
            disconnect()


def start(options: Mapping[str, Any]) -> None:
    """Start Ray, or join the cluster at RAY_ADDRESS.

    Raises:
        UserError: it does not start, or refuses this process (another token, another version).
    """
    import ray
    from ray.exceptions import AuthenticationError, RayError

    try:
        ray.init(**options)
    except AuthenticationError as error:
        raise UserError(
            f"the cluster at {os.environ.get(VARIABLE)} must accept this machine's token, but it does not; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's own."
        ) from error
    except (RayError, RuntimeError, OSError, ValueError, AssertionError) as error:
        disconnect()
        where = f"Ray at {os.environ[VARIABLE]} must take this process" if joins_cluster() else "Ray must start here"
        raise UserError(
            f"{where}, but: {one_line(str(error))[:200]}; see `balance-tune doctor`, and Ray's own log below its "
            "temporary folder (/tmp/ray/session_latest/logs)."
        ) from error


def disconnect() -> None:
    """Shut Ray down with garbage collection switched off.

    Collections run in whichever thread allocates. One that frees a reference to an object of Ray's in another thread
    (of a library, say) while Ray shuts down ends the process with status 1; after that it does no harm.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def remote() -> bool:
    """Return whether the Ray this process is connected to has, or may get, other machines than this one."""
    import ray

    return joins_cluster() or sum(n["Alive"] for n in ray.nodes()) > 1


def pin() -> None:
    """Make a worker process and its children use the cluster that they belong to."""
    import ray

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address


def study_resources(
    config: StudyConfig, cluster: Mapping[str, float], share: float = GPU_SHARE
) -> tuple[TrialResources, dict[str, TrialResources]]:
    """Return the most that any trial of a study takes, and what a trial of each dataset takes.

    `slots` of the first is the largest number of concurrent trials of any dataset.

    Raises:
        UserError: as `trial_resources`.
    """
    by_dataset = {name: trial_resources(config.resources.of(name), cluster, share) for name in config.datasets}
    each = by_dataset.values()
    most = TrialResources(
        max(s.cpus for s in each), max(s.gpus for s in each), config.resources.workers, max(s.slots for s in each)
    )
    return most, by_dataset


def trial_resources(resources: Resources, cluster: Mapping[str, float], share: float = GPU_SHARE) -> TrialResources:
    """Return what a trial takes on this cluster and how many run at a time.

    `share` is the part of a GPU that `gpus_per_trial: auto` means.

    Raises:
        UserError: not even one trial fits.
    """
    has_gpu = cluster.get("GPU", 0) > 0
    gpus = resources.gpus_per_trial
    if gpus == "auto":
        gpus = (share if resources.workers == 1 else 1.0) if has_gpu else 0.0
    each = resources.workers * resources.cpus_per_trial
    fit = [math.floor(cluster.get("CPU", 0) / each)]
    if gpus > 0:
        on_one = math.floor(1 / gpus + 1e-9) if gpus < 1 else 0
        whole = cluster.get("GPU", 0)
        fit.append(math.floor((whole * on_one if on_one else whole / gpus) / resources.workers))
    if min(fit) < 1 and resources.max_concurrent is None:
        raise UserError(
            f"a trial must fit on the cluster, but it needs (cpus={each}, gpus={gpus * resources.workers:g}) and there "
            f"are (cpus={cluster.get('CPU', 0):g}, gpus={cluster.get('GPU', 0):g}); lower `resources`, or give "
            "`resources.max_concurrent` where the cluster grows."
        )
    slots = min(fit) if resources.max_concurrent is None else resources.max_concurrent
    return TrialResources(resources.cpus_per_trial, gpus, resources.workers, max(1, slots))
