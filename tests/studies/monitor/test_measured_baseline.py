"""The cost of a study's arms is measured once, when the study begins or gets another dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.monitor import measured_baseline
from balance_tune.studies.monitor.measured_baseline import with_measured_baseline
from balance_tune.studies.storage.study_folder import StudyFolder


def study(*datasets: str) -> StudyConfig:
    """Return a study whose compute-matched baseline is not measured yet."""
    matched = {"baselines": {"compute_matched": True}}
    return read_config({"name": "s", "datasets": list(datasets), "methods": ["joint", "mlb"], **matched})


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of an epoch of each arm, in place of a measurement."""
    seconds = {f"{d}/{m}": 1.0 for d in ("av_digits", "multiple_features") for m in ("joint", "mlb")}
    monkeypatch.setattr(measured_baseline, "epoch_seconds", lambda *args: seconds)
    return seconds


def test_a_new_study_measures_its_arms_and_says_so(tmp_path: Path, pace: dict[str, float]) -> None:
    pace["av_digits/mlb"] = 2.0
    messages: list[str] = []
    config = with_measured_baseline(study("av_digits"), StudyFolder(tmp_path), messages.append)
    assert config.baselines.compute_matched == {"av_digits": 2.0}
    assert "measuring" in messages[0]
    assert "2 times as long on av_digits" in messages[1]


def test_a_study_that_has_begun_measures_only_a_new_dataset(tmp_path: Path, pace: dict[str, float]) -> None:
    begun = with_measured_baseline(study("av_digits"), StudyFolder(tmp_path), [].append)
    (tmp_path / "study.yaml").write_text(begun.as_yaml())
    pace |= {"av_digits/mlb": 9.0, "multiple_features/mlb": 3.0}
    messages: list[Any] = []
    assert with_measured_baseline(study("av_digits"), StudyFolder(tmp_path), messages.append) == begun
    assert messages == []
    config = with_measured_baseline(study("av_digits", "multiple_features"), StudyFolder(tmp_path), messages.append)
    assert config.baselines.compute_matched == {"av_digits": 1.0, "multiple_features": 3.0}


def test_a_study_without_the_baseline_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_baseline, "epoch_seconds", lambda *args: pytest.fail("measured"))
    plain = read_config({"name": "s", "datasets": ["av_digits"], "methods": ["joint"]})
    assert with_measured_baseline(plain, StudyFolder(tmp_path), print) is plain
