"""How much longer the compute-matched baseline trains."""

from __future__ import annotations

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.protocol.compute_matched import (
    datasets_to_measure,
    in_words,
    with_factors,
    with_measured_factors,
)

STUDY = read_config(
    {
        "name": "s", "datasets": ["av_digits", "multiple_features"], "methods": ["joint", "mlb", "ogm_ge"],
        "baselines": {"compute_matched": True},
    }
)  # fmt: skip


def test_it_trains_as_long_as_the_dearest_arm_of_its_dataset() -> None:
    arms = arms_of(STUDY)
    assert [arm.label for arm in arms] == ["joint", "mlb", "ogm_ge"] * 2  # nothing is known yet
    pace = {
        "av_digits/joint": 1.0, "av_digits/mlb": 2.5, "av_digits/ogm_ge": 1.5,
        "multiple_features/joint": 2.0, "multiple_features/mlb": 1.0, "multiple_features/ogm_ge": None,
    }  # fmt: skip
    study = with_measured_factors(STUDY, arms, pace)
    assert study.baselines.compute_matched == {"av_digits": 2.5, "multiple_features": 1.0}
    assert datasets_to_measure(STUDY) == ["av_digits", "multiple_features"]
    assert datasets_to_measure(study) == []
    assert [arm.name for arm in arms_of(study) if arm.label == "joint_matched"] == [
        "av_digits/joint_matched", "multiple_features/joint_matched",
    ]  # fmt: skip
    assert "2.5 times as long on av_digits" in in_words({"av_digits": 2.5})


def test_what_was_measured_when_the_study_began_stays() -> None:
    study = with_factors(STUDY, {"av_digits": 3.0, "multiple_features": 1.2})
    assert with_factors(study, {"av_digits": 9.0}) is study
    assert read_config(study.as_dict()) == study
