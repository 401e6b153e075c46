"""How far a study is, and how long it will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.monitor.estimate import outlook, seconds_left
from tests.studies.toy import EPOCHS, ToyStudy, toy_config


def study_of(folder: Path) -> ToyStudy:
    search = {"trials": 4, "sampler": "random", "early_stopping": "none"}
    return ToyStudy(folder, toy_config(datasets=["d1"], methods=["joint", "mlb"], search=search))


def test_before_the_first_trial_all_is_ahead(tmp_path: Path) -> None:
    states = outlook(study_of(tmp_path).queue)
    assert [s.done for s in states] == [0, 0]
    assert seconds_left(states, 2) is None


def test_what_is_expected_is_what_comes(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    before = outlook(study.queue)
    study.play()
    after = outlook(study.queue)
    for early, late in zip(before, after, strict=True):
        assert late.done == late.expected <= early.expected
        assert late.epochs_left == 0


def test_running_trials_and_the_best_value_are_shown(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.play(2 * EPOCHS + 3)
    state, other = outlook(study.queue)
    assert (state.counts["complete"], state.counts["running"], other.counts["complete"]) == (1, 1, 1)
    assert state.search_val == pytest.approx(0.96 * (1 - 0.5**EPOCHS))


def test_time_left_is_epochs_left_at_the_pace_seen_so_far(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.play(EPOCHS)
    study.queue.pace["d1"] = (20.0, 10)
    states = outlook(study.queue)
    epochs = sum(s.epochs_left for s in states)
    assert seconds_left(states, 2) == pytest.approx(epochs * 2.0 / 2)
