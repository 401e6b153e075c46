"""How many trials share a GPU: measured by joint training on each of the study's datasets, before its first trial.

Several processes on one device gain as long as one of them leaves it idle (small models wait for the host), and as long
as all of them fit into its memory.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from balance_tune.studies.cluster.placement import elsewhere
from balance_tune.studies.storage.study_folder import StudyFolder

FILE = "sharing.json"
FRACTIONS = (1.0, 0.5, 0.25, 0.125)
ROOM = 0.7  # of the device's memory that joint trainings may fill: other methods take more (teachers, second passes)
WORTH = 0.8  # twice as many trials are worth it as long as the device is busy for at most so much of the time
WARM_UP, STEPS = 5, 20


@dataclass(frozen=True)
class Load:
    """The load of one trial on a GPU: peak bytes (context included), seconds of a step, seconds of GPU work in it."""

    memory: int
    step: float
    device: float

    @property
    def busy(self) -> float:
        """Share of the time in which the device works for it."""
        return min(1.0, self.device / self.step) if self.step > 0 else 1.0


def fraction(loads: Sequence[Load], memory: int) -> float:
    """Return the share of a device of `memory` bytes that a trial with one of these loads should get.

    The smallest of `FRACTIONS` at which so many of the largest load fit into `ROOM`, and at which half as many average
    loads would leave the device idle.
    """
    busy = sum(load.busy for load in loads) / len(loads)
    largest = max(load.memory for load in loads)
    for share in reversed(FRACTIONS):
        trials = round(1 / share)
        if trials == 1 or (trials * largest <= ROOM * memory and trials / 2 * busy <= WORTH):
            return share
    return 1.0


def fraction_of(folder: StudyFolder, measure: Callable[[], tuple[list[Load], int]]) -> float:
    """Return the study's fraction of a GPU: the recorded one, else measure and record it."""
    path = folder.path / FILE
    if path.is_file():
        return float(json.loads(path.read_text())["fraction"])
    loads, memory = measure()
    share = fraction(loads, memory)
    shown = [{**dataclasses.asdict(load), "busy": load.busy} for load in loads]
    folder.write_json(FILE, {"fraction": share, "device_memory": memory, "loads": shown})
    return share


def measure_loads(configs: Sequence[Mapping[str, Any]], cpus: int, avoid: Sequence[str] = ()) -> tuple[list[Load], int]:
    """Return the load of each trial configuration and the device's bytes, measured in a Ray task that has a GPU.

    `avoid` are the ids of nodes on which the task does not run.
    """
    import ray

    options = {"label_selector": elsewhere(avoid)} if avoid else {}
    task = ray.remote(num_cpus=cpus, num_gpus=1, max_retries=0, max_calls=1, **options)(_measure)
    loads: tuple[list[Load], int] = ray.get(task.remote(list(configs)))
    return loads


def _measure(configs: Sequence[Mapping[str, Any]]) -> tuple[list[Load], int]:
    import torch

    torch.set_num_threads(1)
    return [_load(config) for config in configs], int(torch.cuda.mem_get_info()[1])


def _load(config: Mapping[str, Any]) -> Load:
    """Train some steps on the GPU, timed, then as many under the profiler; validate once for the memory it takes."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from balance_tune.training.evaluation import evaluate
    from balance_tune.training.setup import prepare

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run, modulation = prepare({**config, "gpus": config.get("gpus") or 1.0})
    ctx = run.context
    ctx.model.train()
    ctx.optimization.set_rate(ctx.settings.rate(0))

    def steps(count: int) -> float:
        torch.cuda.synchronize()
        began, done = time.perf_counter(), 0
        while done < count:
            for batch in islice(ctx.planned(ctx.plan()), count - done):
                modulation.train_step(batch, ctx)
                done += 1
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / count

    steps(WARM_UP)
    step = steps(STEPS)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        steps(STEPS)
    device = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / STEPS
    evaluate(ctx.model, run.validation, autocast=ctx.autocast)
    free, whole = torch.cuda.mem_get_info()
    context = max(0, whole - free - torch.cuda.memory_reserved())
    return Load(torch.cuda.max_memory_reserved() + context, step, device)
