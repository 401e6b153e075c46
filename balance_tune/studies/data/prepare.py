"""Prepares a distribution into a store: in this process, in several, or as Ray tasks over a cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from balance_tune.datasets.address import expanded
from balance_tune.datasets.distribution import Distribution
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.place import Place
from balance_tune.datasets.preparation import Outcome, begin, check_losses, finish, finished, write_chunk
from balance_tune.datasets.preparation_plan import SHARD_BYTES, Chunk, plan_of
from balance_tune.errors import UserError
from balance_tune.studies.cluster.ray_address import check_ray_address, joins_cluster

MAX_CORRUPT = 0.05
"""Share of samples that may be unreadable, unless the user says otherwise."""
Advance = Callable[[int, int, int], None]
"""Called after every shard with the samples dealt with, those in all, and those that were there before."""
Work = Callable[[Chunk], Outcome]


def prepare(
    dataset: Distribution,
    source: Path | str,
    out: Path | str,
    *,
    workers: int = 1,
    max_corrupt: float = MAX_CORRUPT,
    shard_bytes: int = SHARD_BYTES,
    advance: Advance = lambda done, total, before: None,
) -> Manifest:
    """Prepare `dataset` from the folder `source` into the store `out`, or go on with it; return its manifest.

    The bytes of the store depend on neither the number of workers nor on interruptions. With `RAY_ADDRESS` set, shards
    are Ray tasks on that cluster, whose nodes must reach `source` and `out` by these names.

    Raises:
        UserError: the source is not what the dataset expects, `out` holds something else, or more than `max_corrupt` of
            the samples cannot be read.
    """
    if not 0 <= max_corrupt <= 1:
        raise UserError(f"`0 <= max_corrupt <= 1` must hold, but got ({max_corrupt=}).")
    if workers < 1:
        raise UserError(f"`workers >= 1` must hold, but got ({workers=}).")
    check_ray_address()
    source = expanded(source)
    place = Place.of(out)
    plan = plan_of(dataset, source, shard_bytes)
    with _usable(place):
        there = begin(plan, place)
    if there is not None:
        return there
    with _usable(place):
        outcomes = {chunk.file: outcome for chunk in plan.chunks if (outcome := finished(chunk, place)) is not None}
    sizes = {chunk.file: len(chunk.items) for chunk in plan.chunks}
    before = done = sum(sizes[file] for file in outcomes)
    advance(done, len(plan.items), before)
    due = [chunk for chunk in plan.chunks if chunk.file not in outcomes]
    work = partial(write_chunk, dataset, source, place=place)
    for chunk, outcome in _spread(work, due, workers):
        outcomes[chunk.file] = outcome
        done += sizes[chunk.file]
        check_losses(plan, outcomes.values(), max_corrupt)
        advance(done, len(plan.items), before)
    with _usable(place):
        return finish(plan, [outcomes[chunk.file] for chunk in plan.chunks], place, max_corrupt)


@contextmanager
def _usable(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"the store {place} must be writable, but: {error.strerror or error}.") from error


def _spread(work: Work, due: Sequence[Chunk], workers: int) -> Iterator[tuple[Chunk, Outcome]]:
    """Yield each chunk with its outcome, in any order."""
    if joins_cluster():
        return _cluster(work, due)
    if workers == 1 or len(due) < 2:
        return ((chunk, _alone(work, chunk)) for chunk in due)
    return _processes(work, due, min(workers, len(due)))


def _alone(work: Work, chunk: Chunk) -> Outcome:
    import torch

    torch.set_num_threads(1)  # sums are added in the order of one thread, everywhere
    return work(chunk)


def _processes(work: Work, due: Sequence[Chunk], workers: int) -> Iterator[tuple[Chunk, Outcome]]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(_alone, work, chunk): chunk for chunk in due}
        try:
            while pending:
                ready, _ = wait(pending, return_when=FIRST_COMPLETED)
                for one in ready:
                    yield pending.pop(one), one.result()
        except BrokenProcessPool as error:
            raise UserError(
                "every process that prepares data must live, but one was ended (out of memory?); run again with fewer "
                "--workers: what is finished stays."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _cluster(work: Work, due: Sequence[Chunk]) -> Iterator[tuple[Chunk, Outcome]]:
    import ray

    from balance_tune.studies.cluster.ray_cluster import disconnect, start

    starts_ray = not ray.is_initialized()
    if starts_ray:
        start({"log_to_driver": False, "logging_level": "ERROR"})
    try:
        task = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[OSError])(_alone)
        work_ref = ray.put(work)
        most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(reversed(due))
        pending: dict[Any, Chunk] = {}
        while waiting or pending:
            while waiting and len(pending) < most:
                chunk = waiting.pop()
                pending[task.remote(work_ref, chunk)] = chunk
            (ready, *_), _ = ray.wait(list(pending), num_returns=1)
            chunk = pending.pop(ready)
            try:
                yield chunk, ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from error
    finally:
        if starts_ray:
            disconnect()
