"""What is made ahead comes in order, and nothing is left behind when the caller leaves off."""

from __future__ import annotations

import threading

import pytest

from balance_tune.training.prefetch import ahead


def test_results_come_in_order_and_are_made_in_another_thread() -> None:
    here = threading.get_ident()
    found = list(ahead(lambda i: (i * i, threading.get_ident()), range(7)))
    assert [value for value, _ in found] == [i * i for i in range(7)]
    assert here not in {thread for _, thread in found}


def test_no_more_is_made_than_so_many_steps_ahead() -> None:
    made: list[int] = []
    steps = ahead(lambda i: made.append(i) or i, range(100), depth=2)
    assert next(steps) == 0
    steps.close()
    assert len(made) <= 3


def test_an_error_is_raised_where_its_result_would_have_come_and_the_thread_ends() -> None:
    before = threading.active_count()
    steps = ahead(lambda i: 1 // (i - 2), range(5))
    assert [next(steps), next(steps)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(steps)
    assert threading.active_count() == before
