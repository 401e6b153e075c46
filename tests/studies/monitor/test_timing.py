"""How long an epoch takes is measured once and kept."""

from pathlib import Path

import pytest

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.monitor import timing
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.storage.study_folder import StudyFolder


def study(*overrides: str) -> StudyConfig:
    raw = {"name": "p", "datasets": ["av_digits", "multiple_features"], "methods": ["joint", "mlb"]}
    return read_config(raw, overrides)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def fake(config: StudyConfig, arm: timing.Arm, root: Path) -> float:
        names.append(arm.name)
        return 0.5

    monkeypatch.setattr(timing, "_measure", fake)
    return names


ARMS = {"av_digits/joint", "av_digits/mlb", "multiple_features/joint", "multiple_features/mlb"}


def test_every_arm_is_measured_once(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    for _ in range(2):
        assert timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path)) == dict.fromkeys(ARMS, 0.5)
    assert sorted(measured) == sorted(ARMS)


def test_another_model_or_batch_size_is_measured_again(tmp_path: Path, measured: list[str]) -> None:
    for config in (study(), study("training.batch_size=8"), study("model.fusion=sum"), study("training.lr=0.1")):
        timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path))
    assert len(measured) == 3 * len(ARMS)


def test_where_epochs_are_long_only_joint_training_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []
    monkeypatch.setattr(timing, "_measure", lambda config, arm, root: timed.append(arm.name) or 60.0)
    config = study()
    assert set(timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path)).values()) == {60.0}
    assert timed == ["av_digits/joint", "multiple_features/joint"]


def test_nothing_is_measured_or_written_where_that_is_not_wanted(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    found = timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path), measure=False)
    assert found == dict.fromkeys(ARMS)
    assert not measured
    assert not list(tmp_path.iterdir())


def test_an_unmeasured_method_is_taken_to_cost_what_joint_training_does(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    joint = [arm for arm in arms_of(config) if arm.method == "joint"]
    timing.epoch_seconds(config, joint, StudyFolder(tmp_path))
    assert timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path), measure=False) == dict.fromkeys(
        ARMS, 0.5
    )


def test_a_damaged_cache_is_measured_again(tmp_path: Path, measured: list[str]) -> None:
    config = study()
    timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path))
    (tmp_path / "data" / timing.CACHE).write_text("{")
    timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path))
    assert len(measured) == 2 * len(ARMS)


def test_a_measurement_trains_a_few_real_epochs(tmp_path: Path) -> None:
    config = study("datasets=[multiple_features]", "methods=[joint]")
    (seconds,) = timing.epoch_seconds(config, arms_of(config), StudyFolder(tmp_path)).values()
    assert seconds is not None
    assert seconds > 0
