"""The end of a wait for machines that never come."""

from __future__ import annotations

from balance_tune.studies.cluster.resource_timeout import ResourceTimeout


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_wait_ends_with_what_was_asked_for_and_what_there_is() -> None:
    clock = Clock()
    waiting = ResourceTimeout({"CPU": 8.0, "GPU": 2.0}, 600.0, lambda: {"CPU": 4.0}, clock)
    for clock.now in (0.0, 300.0, 599.0):
        assert waiting.look(True) == ""
    clock.now = 600.0
    words = waiting.look(True)
    assert "for 10 minutes no trial got what it needs (CPU 8, GPU 2), and the cluster has (CPU 4, GPU 0)" in words
    assert "resources.wait_minutes" in words


def test_a_trial_that_runs_begins_the_wait_anew() -> None:
    clock = Clock()
    waiting = ResourceTimeout({"CPU": 1.0}, 600.0, dict, clock)
    assert waiting.look(True) == ""
    clock.now = 500.0
    assert waiting.look(False) == ""
    clock.now = 1000.0
    assert waiting.look(True) == ""
    clock.now = 1599.0
    assert waiting.look(True) == ""
    clock.now = 1600.0
    assert waiting.look(True)
