"""The study's own limits end it with what is known, and it goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.config.schema import Limit
from balance_tune.studies.execution.limits import Limits
from balance_tune.studies.storage.records import read_records
from tests.studies.toy import ToyStudy, toy_config


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_hours_count_from_the_start_of_this_run() -> None:
    clock = Clock()
    limits = Limits(Limit(hours=2), lambda: 1e9, clock)
    clock.now += 7199
    assert limits.limit_reached() == ""
    clock.now += 1
    assert limits.limit_reached() == "limit.hours = 2 is used up"
    assert Limits(Limit(hours=2), lambda: 1e9, clock).limit_reached() == ""


def test_device_hours_count_every_run_of_the_study() -> None:
    spent = 3599.0
    limits = Limits(Limit(device_hours=1), lambda: spent)
    assert limits.limit_reached() == ""
    spent = 3600.0
    assert limits.limit_reached() == "limit.device_hours = 1 is used up"


def test_without_a_limit_nothing_ends() -> None:
    clock = Clock()
    limits = Limits(Limit(), lambda: 1e12, clock)
    clock.now += 1e9
    assert limits.limit_reached() == ""


def test_a_study_that_used_its_device_hours_up_knows_it_after_a_restart_and_goes_on_with_more(tmp_path: Path) -> None:
    study, whole = (
        ToyStudy(tmp_path / "cut", toy_config(datasets=["d1"])),
        ToyStudy(tmp_path / "whole", toy_config(datasets=["d1"])),
    )
    limit = Limit(device_hours=40 / 3600)  # an epoch of a toy takes a second
    while not Limits(limit, study.queue.device_seconds).limit_reached():
        study.play(12)
        study.reopen()
    ended = [r for r in read_records(study.folder) if r.finished]
    assert 40 <= sum(r.device_seconds for r in ended) < 40 + 12
    assert Limits(limit, study.queue.device_seconds).limit_reached()
    assert not Limits(Limit(device_hours=1), study.queue.device_seconds).limit_reached()
    study.play()
    whole.play()
    known = [[(r.arm, r.phase, r.number, r.state, r.value) for r in read_records(s.folder)] for s in (study, whole)]
    assert known[0] == known[1]


@pytest.mark.parametrize("hours", [0, -1])
def test_a_limit_of_nothing_is_refused(hours: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Limit(hours=hours)
