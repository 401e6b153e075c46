"""The study's own limits."""

from __future__ import annotations

from balance_tune.studies.config import Limit
from balance_tune.studies.limits import Limits


def test_hours_count_from_the_start_of_the_run() -> None:
    now = [1000.0]
    limits = Limits(Limit(hours=2), lambda: 1e9, lambda: now[0])
    now[0] += 7199
    assert limits.reached() == ""
    now[0] += 1
    assert limits.reached() == "limit.hours = 2 is used up"


def test_device_hours_count_what_the_trials_took() -> None:
    spent = [0.0]
    limits = Limits(Limit(device_hours=0.5), lambda: spent[0])
    assert limits.reached() == ""
    spent[0] = 1800.0
    assert limits.reached() == "limit.device_hours = 0.5 is used up"


def test_without_limits_nothing_is_ever_reached() -> None:
    assert Limits(Limit(), lambda: 1e12).reached() == ""
