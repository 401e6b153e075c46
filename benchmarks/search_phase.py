"""The search phase of a study alone, with all that it does beside training: Ray, Optuna, pruning log, MLflow."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from balance_tune.studies.cluster.ray_cluster import ray_for, trial_resources
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.execution.trial import run_trial
from balance_tune.studies.execution.tune_run import run_trials
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.search.study_queue import StudyQueue
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.tracker import Tracker
from balance_tune.tasks import Objective
from benchmarks.trials import store_of


@dataclass
class Phase:
    """What a search phase was.

    Attributes:
        slots: trials at a time.
        configs: each trial's configuration.
        opened: when the queue had read what the study's folder holds.
        began: when the first trial began to train or, if trials were let pass first, when the last of these ended.
        ended: per trial as they ended: (when, CPU seconds of the driver and MLflow's worker so far, epochs trained).
        device_seconds: what the trials say that their epochs took, together.
        lag: seconds for which MLflow's worker went on when all else was over.
    """

    slots: int = 0
    configs: dict[TrialKey, dict[str, Any]] = field(default_factory=dict)
    opened: float = 0.0
    began: float = 0.0
    ended: dict[TrialKey, tuple[float, float, int]] = field(default_factory=dict)
    device_seconds: float = 0.0
    lag: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first trial's first epoch to the last trial's end, starting Ray and its actors left out."""
        return max(when for when, _, _ in self.ended.values()) - self.began


def search(
    config: StudyConfig,
    trainable: Callable[[dict[str, Any]], None] = run_trial,
    *,
    cpus: int = 2,
    folder: Path,
    heard: Callable[[Phase, TrialKey], None] = lambda phase, key: None,
) -> Phase:
    """Run the search trials of a study that `folder` lacks and return what they cost; nothing else is run.

    `heard` is called with what is known so far whenever a trial has ended.
    """
    arms = arms_of(config)
    stores = {name: store_of(name) for name in config.datasets}
    manifests = {name: _manifest(stores[name]) for name in stores}
    (folder / "study.yaml").write_text(config.as_yaml())
    phase = Phase()

    def configure(arm: Arm, params: Mapping[str, Any], kind: Any, number: int, seed: int, *_: int) -> dict[str, Any]:
        made = trial_config(
            config, arm, params, phase=kind, number=number, seed=seed, study_folder=folder, store=stores[arm.dataset]
        )
        phase.configs[TrialKey(arm.name, kind, number)] = made
        return {**made, "device": "cpu", "cpus": 1, "gpus": 0, "scratch": str(folder / ".tune")}

    def on_trial_end(key: TrialKey, state: Any, attrs: Mapping[str, Any]) -> None:
        if key.phase == "search":
            phase.ended[key] = (time.perf_counter(), time.process_time() + spent_by(tracker), int(attrs["epochs"]))
            phase.device_seconds += float(attrs["device_seconds"])
            heard(phase, key)

    def tick(last: bool = False) -> None:
        if not phase.began and any(run.epochs for run in queue.live.values()):
            first = max(run.device_seconds for run in queue.live.values())
            phase.began = time.perf_counter() - first

    for name, manifest in manifests.items():
        durable.write(folder / "data" / f"{name}.json", manifest.to_json())
    tracker = Tracker(config, folder)
    pruning_log = PruningLog(folder / "ledger.jsonl")
    pruner = Pruner(
        config.search.early_stopping,
        {a.name: a.epochs(a.space.defaults()) for a in arms},
        pruning_log,
        Objective(config.objective),
    )
    queue = StudyQueue(
        config,
        arms,
        open_storage(StudyFolder(folder)),
        pruning_log,
        StudyFolder(folder),
        configure=configure,
        on_trial_end=on_trial_end,
    )
    phase.opened = time.perf_counter()
    ended_before = sum(r.finished for arm in arms for r in queue.records(arm.name))
    due = len(arms) * (config.search.trials or 0) - ended_before
    with ray_for(config.resources, cpus=cpus) as cluster, _scratch(folder) as scratch:
        tracker.start()
        trial = trial_resources(config.resources, cluster)
        phase.slots = trial.slots
        run_trials(
            queue,
            pruner,
            trial,
            scratch,
            exhausted=lambda: "all searched" if len(phase.ended) >= due else "",
            tick=tick,
            trainable=trainable,
        )
    over = time.perf_counter()
    tracker.trials_over()
    tracker.interrupt()
    phase.lag = time.perf_counter() - over
    pruning_log.close()
    return phase


def spent_by(tracker: Tracker) -> float:
    """Return the CPU seconds of MLflow's worker so far."""
    pid = tracker.worker_pid
    return 0.0 if pid is None else sum(psutil.Process(pid).cpu_times()[:2])


def _manifest(store: Path) -> Any:
    from balance_tune.datasets.manifest import Manifest

    return Manifest.from_json((store / "manifest.json").read_text("utf-8"))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    path = folder / ".tune"
    path.mkdir(exist_ok=True)
    yield path


@contextlib.contextmanager
def study_folder() -> Iterator[Path]:
    """Yield a folder for a study that is forgotten afterwards, with MLflow's store, which lies beside it."""
    root = Path(tempfile.mkdtemp(prefix="balance_tune_bench_"))
    folder = root / "study"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(root, ignore_errors=True)


def say(text: str) -> None:
    """Tell whoever waits what is going on; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)
