"""Makes what is needed next while the present is being used: one thread, so many steps ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(make: Callable[[T], R], items: Iterable[T], depth: int = 2) -> Iterator[R]:
    """Yield make(item) for every item, in order, made in one thread up to `depth` items ahead.

    What `make` raises is raised where its result would have come. When the caller leaves off, at most `depth` results
    have been made for nothing; the thread has ended by then.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    waiting: deque[Future[R]] = deque()
    source = iter(items)
    try:
        while True:
            while len(waiting) < depth:
                try:
                    item = next(source)
                except StopIteration:
                    break
                waiting.append(pool.submit(make, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
