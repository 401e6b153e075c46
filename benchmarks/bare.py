"""The same trainings by hand: bare processes that pull configurations from a list; no Ray, no Optuna, no MLflow."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from queue import Empty
from typing import Any

Job = tuple[Mapping[str, Any], int]  # a trial's configuration, and after how many epochs it ends


class Bare:
    """So many processes, imports done, that train whatever they are given; nothing is written down."""

    def __init__(self, processes: int = 2) -> None:
        spawn = multiprocessing.get_context("spawn")
        ready, self._waiting, self._done = spawn.Barrier(processes + 1), spawn.Queue(), spawn.Queue()
        self._workers = [
            spawn.Process(target=_train_all, args=(ready, self._waiting, self._done), daemon=True)
            for _ in range(processes)
        ]
        for worker in self._workers:
            worker.start()
        ready.wait(120)
        self.given = self.done = 0

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.join()

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers if worker.pid is not None]

    @property
    def busy(self) -> bool:
        """Whether every process has a training, and another one waits."""
        return self.given - self.done > len(self._workers)

    def give(self, job: Job) -> None:
        self._waiting.put(job)
        self.given += 1

    def work(self, seconds: float) -> None:
        """Let this much time pass, or less: until nothing waits any more."""
        until = time.perf_counter() + seconds
        while self.busy and (left := until - time.perf_counter()) > 0:
            self._hear(left)

    def finish(self) -> None:
        """Wait until all is done.

        Raises:
            RuntimeError: a process has died.
        """
        while self.done < self.given:
            if not self._hear(1.0) and not all(worker.is_alive() for worker in self._workers):
                raise RuntimeError(f"{self.done} of {self.given} bare trainings were done")

    def _hear(self, seconds: float) -> bool:
        try:
            self._done.get(timeout=seconds)
        except Empty:
            return False
        self.done += 1
        return True


def _train_all(ready: Any, waiting: Any, done: Any) -> None:
    import torch

    from balance_tune.training.errors import Diverged
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    torch.set_num_threads(1)
    ready.wait(120)
    while True:
        config, epochs = waiting.get()
        run, modulation = prepare({**config, "device": "cpu"})
        training = train(run, modulation)
        try:
            for _ in range(epochs):
                next(training)
        except Diverged:
            pass
        done.put(None)
