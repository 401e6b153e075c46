"""How the answer of a check reads."""

from __future__ import annotations

from balance_tune.studies.doctor.finding import fail, ok, warn


def test_a_finding_that_is_not_well_says_what_to_do() -> None:
    assert str(ok("disk", "12 GB free")) == "ok    disk          12 GB free"
    assert str(warn("disk", "1 GB free", "make room")) == "warn  disk          1 GB free; make room"
    assert str(fail("disk", "full", "make room")) == "fail  disk          full; make room"
