"""A study in which trials failed: it says so, and runs them again when asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.protocol.selection import failures
from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.findings import answer
from balance_tune.studies.storage.records import read_records
from tests.studies.toy import ToyStudy, bowl, toy_config

ONE = {"datasets": ["d1"], "search": {"trials": 3, "sampler": "random", "early_stopping": "none"}}
NEVER = "`val/accuracy` was never a finite number"


def nowhere(params: Mapping[str, Any], epoch: int) -> float:
    return math.nan


def unconfirmed(params: Mapping[str, Any], epoch: int) -> float:
    return math.nan if params["phase"] == "confirm" else bowl(params, epoch)


def broken(folder: Path) -> ToyStudy:
    study = ToyStudy(folder, toy_config(**ONE), curve=nowhere)
    study.play()
    return study


def known(folder: Path) -> list[tuple[Any, ...]]:
    """Return what counts of a study's trials, without their numbers."""
    return sorted(
        (r.arm, r.phase, str(dict(r.params)), r.seed or 0, r.state, r.value or 0.0, str(r.attrs.get("default")))
        for r in read_records(folder)
        if not r.superseded
    )


def test_an_arm_of_which_everything_failed_has_a_reason(tmp_path: Path) -> None:
    study = broken(tmp_path)
    reasons = failures(read_records(tmp_path), study.config.as_dict())
    assert reasons == dict.fromkeys(["d1/joint", "d1/mlb"], f"3 search trials failed, the last with: {NEVER}")
    rows = leaderboard.rows_of(read_records(tmp_path), study.config.as_dict(), tmp_path)
    assert {row.arm: row.failure for row in rows} == reasons
    told = answer("d1", rows)
    assert told.startswith("There is no answer for d1: joint has failed (3 search trials failed, the last with: ")
    assert "so has mlb" in told
    assert "--retry-failed" in told


def test_failed_confirmations_are_a_reason_too(tmp_path: Path) -> None:
    study = ToyStudy(
        tmp_path, toy_config(**ONE), curve=lambda p, e: math.nan if p["phase"] == "confirm" else bowl(p, e)
    )
    study.play()
    reasons = failures(read_records(tmp_path), study.config.as_dict())
    assert set(reasons) == {"d1/joint", "d1/mlb"}
    assert "confirmation trials failed" in reasons["d1/joint"]


def test_a_study_that_is_not_through_or_went_well_has_none(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path / "half", toy_config(**ONE), curve=nowhere)
    study.play(steps=12)
    assert failures(read_records(study.folder), study.config.as_dict()) == {}
    study = ToyStudy(tmp_path / "well", toy_config(**ONE))
    study.play()
    assert failures(read_records(study.folder), study.config.as_dict()) == {}
    assert all(row.failure is None for row in leaderboard.build(study.folder))


def test_one_failed_trial_of_many_is_no_failed_arm(tmp_path: Path) -> None:
    study = ToyStudy(
        tmp_path, toy_config(**ONE), curve=lambda p, e: math.nan if p["modulation.x"] == 0.5 else bowl(p, e)
    )
    study.play()
    assert failures(read_records(tmp_path), study.config.as_dict()) == {}


def test_without_being_asked_failed_trials_stay_failed(tmp_path: Path) -> None:
    study = broken(tmp_path)
    before = known(tmp_path)
    study.curve = bowl
    study.reopen()
    study.play()
    assert known(tmp_path) == before


@pytest.mark.parametrize("interrupted_after", [None, 11])
def test_retried_the_study_is_what_it_would_have_been(tmp_path: Path, interrupted_after: int | None) -> None:
    whole = ToyStudy(tmp_path / "whole", toy_config(**ONE))
    whole.play()
    study = broken(tmp_path / "broken")
    study.curve = bowl
    study.reopen(retry_failed=True)
    if interrupted_after is not None:
        study.play(interrupted_after)
        study.reopen(retry_failed=True)
    study.play()
    assert known(study.folder) == known(whole.folder)
    assert failures(read_records(study.folder), study.config.as_dict()) == {}
    retried = [r for r in read_records(study.folder) if r.retried]
    assert len(retried) == 8  # of each arm three search trials, and the default's selection
    rows = {
        row["arm"]: row for row in leaderboard.rows_of(read_records(study.folder), study.config.as_dict(), tmp_path)
    }
    assert (rows["d1/joint"]["trials"], rows["d1/joint"]["failed"], rows["d1/joint"]["lost"]) == (3, 0, 0)


def test_failed_confirmations_are_retried_alone(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(**ONE), curve=unconfirmed)
    study.play()
    before = len(study.started)
    study.curve = bowl
    study.reopen(retry_failed=True)
    study.play()
    again = study.started[before:]
    assert {key.phase for key in again} == {"confirm"}
    whole = ToyStudy(tmp_path / "whole", toy_config(**ONE))
    whole.play()
    assert known(tmp_path) == known(whole.folder)


def test_nothing_is_retried_where_nothing_failed(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(**ONE))
    study.play()
    before = len(study.started)
    study.reopen(retry_failed=True)
    study.play()
    assert len(study.started) == before
