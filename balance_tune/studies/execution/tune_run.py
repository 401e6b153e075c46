"""One Ray Tune run over all that a study's queue has due."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from balance_tune.studies.cluster.devices import Devices
from balance_tune.studies.cluster.placement import place
from balance_tune.studies.cluster.ray_cluster import HEAD, TrialResources, ray_log, remote
from balance_tune.studies.cluster.resource_timeout import ResourceTimeout
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.execution.scheduler import ArmScheduler
from balance_tune.studies.execution.searcher import StudySearcher
from balance_tune.studies.execution.trial import run_trial
from balance_tune.studies.private_apis import without_callback_count
from balance_tune.studies.search.study_queue import StudyQueue


def run_trials(
    queue: StudyQueue,
    pruner: Pruner,
    trial: TrialResources,
    scratch: Path,
    *,
    warm: bool = True,
    callbacks: Sequence[tune.Callback] = (),
    interrupted: Callable[[], bool] = lambda: False,
    exhausted: Callable[[], str] = lambda: "",
    tick: Callable[..., None] = lambda last=False: None,
    trainable: Callable[[dict[str, Any]], None] = run_trial,
    patience: float = 1800.0,
    devices: Devices | None = None,
) -> str:
    """Run the queue's trials until nothing is due; return why it ended before, or nothing.

    The run ends after `patience` seconds in which no trial got its resources, and where none of the `devices` works.

    With `warm`, actors are used for several trials, except where a trial has a worker group. `tick` is called some ten
    times a second, and once at the end with `last=True`.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(trial.slots)  # Tune asks for so many nodes
    placement = partial(place, cpus=trial.cpus, gpus=trial.gpus, workers=trial.workers, head=HEAD)
    each = {"CPU": float(trial.cpus * trial.workers), "GPU": trial.gpus * trial.workers}
    waiting = ResourceTimeout(each, patience, ray.cluster_resources)
    scheduler = ArmScheduler(
        queue, pruner, waiting=waiting, devices=devices, groups=trial.workers > 1, several=remote()
    )
    searcher = StudySearcher(queue, scheduler, trial.slots, interrupted)
    watch = _Watch(scheduler, interrupted, exhausted)
    tuner = tune.Tuner(
        tune.with_resources(trainable, placement),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=searcher,
            scheduler=scheduler,
            reuse_actors=warm and trial.workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(scratch),
            stop=watch,
            callbacks=[_Ticker(tick), *callbacks],
            failure_config=tune.FailureConfig(max_failures=0),  # the queue runs a lost trial again, and counts
            verbose=0,
        ),
    )
    with ray_log(scratch.parent / "ray.log"), without_callback_count():
        tuner.fit()
    tick(last=True)
    return watch.reason


class _Watch(tune.Stopper):  # type: ignore[misc]  # ray is not typed
    """Ends the run on a signal, at a limit, or when the scheduler halts; running trials stay open, to be resumed."""

    def __init__(self, scheduler: ArmScheduler, interrupted: Callable[[], bool], exhausted: Callable[[], str]) -> None:
        self.reason = ""
        self._scheduler, self._interrupted, self._exhausted = scheduler, interrupted, exhausted

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self.reason:
            self.reason = "a signal" if self._interrupted() else self._scheduler.halted or self._exhausted()
        return bool(self.reason)


class _Ticker(tune.Callback):  # type: ignore[misc]
    """Calls back at every step of Tune's loop."""

    def __init__(self, tick: Callable[..., None]) -> None:
        self._tick = tick

    def __getstate__(self) -> dict[str, Any]:
        return {"_tick": None}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._tick()
