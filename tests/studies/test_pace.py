"""How long an epoch takes is measured once and kept."""

from pathlib import Path

import pytest

from balance_tune.studies import pace
from balance_tune.studies.arms import arms_of
from balance_tune.studies.config import StudyConfig, load_config


def study(*overrides: str) -> StudyConfig:
    raw = {"name": "p", "datasets": ["av_digits", "multiple_features"], "methods": ["joint", "mlb"]}
    return load_config(raw, overrides, check=False)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def fake(config: StudyConfig, arm: pace.Arm, root: Path) -> float:
        names.append(arm.name)
        return 0.5

    monkeypatch.setattr(pace, "_measured", fake)
    return names


def test_every_dataset_is_measured_once_with_joint_training(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    for _ in range(2):
        assert pace.epoch_seconds(config, arms_of(config), tmp_path) == {"av_digits": 0.5, "multiple_features": 0.5}
    assert measured == ["av_digits/joint", "multiple_features/joint"]


def test_another_model_or_batch_size_is_measured_again(tmp_path: Path, measured: list[str]) -> None:
    for config in (study(), study("training.batch_size=8"), study("model.fusion=sum"), study("training.lr=0.1")):
        pace.epoch_seconds(config, arms_of(config), tmp_path)
    assert len(measured) == 6


def test_nothing_is_measured_or_written_where_that_is_not_wanted(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    found = pace.epoch_seconds(config, arms_of(config), tmp_path, measure=False)
    assert found == {"av_digits": None, "multiple_features": None}
    assert not measured
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_measured_again(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    pace.epoch_seconds(config, arms_of(config), tmp_path)
    (tmp_path / "data" / pace.CACHE).write_text("{")
    pace.epoch_seconds(config, arms_of(config), tmp_path)
    assert len(measured) == 4


def test_a_measurement_trains_a_few_real_epochs(tmp_path: Path) -> None:
    config = study("datasets=[multiple_features]", "methods=[joint]")
    (seconds,) = pace.epoch_seconds(config, arms_of(config), tmp_path).values()
    assert seconds is not None
    assert seconds > 0
