"""What a trial under way has reported so far."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.search.live_trial import LiveTrial
from balance_tune.studies.storage.study_folder import StudyFolder

OBJECTIVE = "val/accuracy"


def live() -> LiveTrial:
    return LiveTrial(TrialKey("d/m", "search", 0), 0, StudyFolder(Path("nowhere")))


def row(epoch: int, value: float, best_epoch: int, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, OBJECTIVE: value, "best_epoch": best_epoch, "device_seconds": float(epoch), **more}


def test_the_value_of_a_trial_is_that_of_its_best_epoch_not_of_its_last() -> None:
    trial = live()
    for reported in (row(1, 0.5, 1), row(2, 0.9, 2), row(3, 0.7, 2)):
        trial.take(reported, OBJECTIVE)
    assert (trial.epochs, trial.best_epoch, trial.value) == (3, 2, 0.9)
    assert trial.curve == {1: 0.5, 2: 0.9, 3: 0.7}


def test_before_the_first_report_a_trial_has_no_value() -> None:
    assert live().value is None


def test_a_value_that_is_not_finite_is_none() -> None:
    trial = live()
    trial.take(row(1, math.nan, 1), OBJECTIVE)
    assert trial.value is None


def test_metrics_are_kept_by_epoch_and_what_is_no_metric_is_not() -> None:
    trial = live()
    trial.take(row(1, 0.5, 1, **{"train/loss": 2, "hostname": "a", "val/words": "many"}), OBJECTIVE)
    assert trial.metrics == {1: {OBJECTIVE: 0.5, "train/loss": 2.0}}
    assert isinstance(trial.metrics[1]["train/loss"], float)


def test_rows_encoded_at_a_time_are_remembered_once_a_trial_has_said_so() -> None:
    trial = live()
    trial.take(row(1, 0.5, 1, micro_batch=16), OBJECTIVE)
    trial.take(row(2, 0.6, 2), OBJECTIVE)
    assert trial.micro_batch == 16
