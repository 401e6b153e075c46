"""The same trainings by hand: bare processes that pull configurations from a list; no Ray, no Optuna, no MLflow."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from typing import Any

Job = tuple[Mapping[str, Any], int]  # a trial's configuration, and after how many epochs it ends


def bare(jobs: Sequence[Job], processes: int = 2) -> float:
    """Return the seconds in which so many processes, imports done, train all jobs; nothing is written down."""
    spawn = multiprocessing.get_context("spawn")
    ready, waiting, done = spawn.Barrier(processes + 1), spawn.Queue(), spawn.Queue()
    workers = [spawn.Process(target=_train_all, args=(ready, waiting, done), daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait(120)
    began = time.perf_counter()
    for job in [*jobs, *[None] * processes]:
        waiting.put(job)
    finished = sum(done.get(timeout=600) for _ in workers)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join(30)
    if finished != len(jobs):
        raise RuntimeError(f"{finished} of {len(jobs)} bare trainings were done")
    return seconds


def _train_all(ready: Any, waiting: Any, done: Any) -> None:
    import torch

    from balance_tune.training.errors import Diverged
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    torch.set_num_threads(1)
    ready.wait(120)
    count = 0
    while (job := waiting.get()) is not None:
        config, epochs = job
        run, modulation = prepare({**config, "device": "cpu"})
        training = train(run, modulation)
        try:
            for _ in range(epochs):
                next(training)
        except Diverged:
            pass
        count += 1
    done.put(count)
