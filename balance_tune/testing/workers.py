"""Several real processes joined by gloo (or another backend), kept warm: a start costs seconds, a job milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 120.0  # seconds a job may take before its workers count as stuck


class WorkersFailed(RuntimeError):
    """A worker raised, or none answered; the message holds the worker's traceback."""


class Workers:
    """So many worker processes with one `torch.distributed` group; they end with this process.

    A job is an importable function; it runs in every worker at the same time and may use collectives. After a failure
    the workers are gone (one of them may be stuck in a collective), and the next job starts new ones.

    Args:
        backend: of the group, as torch names it; "cuda:gloo" serves tensors on GPUs alone, as NCCL does.
    """

    def __init__(self, world: int = 2, backend: str = "gloo") -> None:
        self.world, self.backend = world, backend
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what `job(*arguments)` returned in each worker, in rank order.

        Raises:
            WorkersFailed: a worker raised or died, or the job took longer than `PATIENCE`.
        """
        self._start()
        message = pickle.dumps((job, arguments))
        for pipe in self._pipes:
            pipe.send_bytes(message)
        answers: dict[int, Any] = {}
        while len(answers) < self.world:
            waiting = [p for rank, p in enumerate(self._pipes) if rank not in answers]
            ready = wait(waiting, timeout=PATIENCE)
            if not ready:
                self.close()
                raise WorkersFailed(f"no worker answered within {PATIENCE:g} s")
            for rank in [r for r, p in enumerate(self._pipes) if p in ready]:
                answers[rank] = self._answer(rank)
        return [answers[rank] for rank in range(self.world)]

    def close(self) -> None:
        """End the workers."""
        for process in self._processes:
            process.terminate()
            process.join()
        self._processes, self._pipes = [], []

    def _answer(self, rank: int) -> Any:
        try:
            failure, answer = pickle.loads(self._pipes[rank].recv_bytes())
        except EOFError:
            failure, answer = "it died", None
        if failure:
            self.close()
            raise WorkersFailed(f"worker {rank}: {failure}")
        return answer

    def _start(self) -> None:
        if self._processes:
            return
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()  # where they meet; it goes when it is no longer needed
        meeting = os.path.join(self._folder.name, "meeting")
        for rank in range(self.world):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, rank, self.world, meeting, self.backend), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)


def _serve(pipe: Connection, rank: int, world: int, meeting: str, backend: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        backend, init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=PATIENCE)
    )
    while True:
        try:
            job, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        answer: tuple[str | None, Any]
        try:
            answer = (None, job(*arguments))
        except Exception:  # whatever the job raises goes to the parent, which raises it
            answer = (traceback.format_exc(), None)
        pipe.send_bytes(pickle.dumps(answer))
