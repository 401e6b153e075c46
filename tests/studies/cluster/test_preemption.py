"""Nodes that are taken away, without any node."""

from __future__ import annotations

import pytest

from balance_tune.studies.cluster.preemption import LOOK_EVERY, DrainCheck, Preempted, node_lost

DIED = """ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
The actor died because its node has died. Node Id: 5b3c
\tthe actor's node was terminated expectedly: received SIGTERM"""


def test_the_head_is_asked_now_and_then_until_it_says_yes() -> None:
    now, answers, asked = 0.0, [False, False, True], 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        return answers.pop(0)

    draining = DrainCheck(ask, lambda: now)
    assert [draining() for _ in range(50)] == [False] * 50
    assert asked == 1
    now = LOOK_EVERY
    assert not draining()
    now = 2 * LOOK_EVERY
    assert draining()
    now = 100.0
    assert draining()
    assert asked == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (DIED, True),
        (f"ray::ImplicitFunc.train() (pid=1)\n{Preempted.__module__}.Preempted: its node is drained", True),
        ("The worker died unexpectedly while executing this task. SIGKILL", False),
        ("ValueError: bad hook", False),
        ("", False),
    ],
)
def test_a_lost_node_is_told_from_a_process_that_died_by_itself(words: str, expected: bool) -> None:
    assert node_lost(words) == expected


def test_what_is_out_of_reach_is_a_lost_node_where_there_are_several() -> None:
    words = "ActorUnavailableError: The actor 1031c3a0 is unavailable: RPC error: Socket closed rpc_code: 14."
    assert node_lost(words, several=True)
    assert not node_lost(words)
    assert not node_lost("ActorDiedError: The actor died because its worker process has died. SIGKILL", several=True)


def test_outside_ray_nothing_is_drained() -> None:
    assert not DrainCheck()()
