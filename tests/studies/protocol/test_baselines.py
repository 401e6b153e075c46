"""The arms that a study has beside its methods."""

from __future__ import annotations

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.protocol.keys import MATCHED, PLACEBO, PLACEBO_SEEDS, seed_offset
from balance_tune.studies.protocol.selection import Rule


def config(**changes: object):  # type: ignore[no-untyped-def]
    return read_config({"name": "s", "datasets": ["multiple_features"], "methods": ["joint", "mlb"], **changes})


def test_the_placebo_is_joint_under_another_name_with_seeds_of_its_own() -> None:
    arms = {arm.label: arm for arm in arms_of(config(placebo=True))}
    assert list(arms) == ["joint", "mlb", PLACEBO]
    assert arms[PLACEBO].method == "joint"
    assert arms[PLACEBO].space == arms["joint"].space
    rule = Rule(confirm_seeds=3)
    ours, theirs = (rule.at(arms[name].name, 2).seeds("confirm") for name in ("joint", PLACEBO))
    assert [b - a for a, b in zip(ours, theirs, strict=True)] == [PLACEBO_SEEDS] * 3
    assert seed_offset("multiple_features/mlb") == 0


def test_the_matched_baseline_trains_longer_by_its_factor() -> None:
    study = config(baselines={"compute_matched": {"multiple_features": 2.5}}, training={"epochs": 10})
    arm = next(arm for arm in arms_of(study) if arm.label == MATCHED)
    assert arm.epochs(arm.space.defaults()) == 25
    assert "training.epochs" not in {p.name for p in arm.space.parameters}


@pytest.mark.parametrize("name", [PLACEBO, MATCHED])
def test_no_arm_takes_their_names(name: str) -> None:
    with pytest.raises(UserError, match="which is the name of a baseline"):
        config(methods=["joint", {"name": name, "method": "mlb"}])


def test_they_may_be_added_to_a_study_and_not_taken_away() -> None:
    plain, both = config(), config(placebo=True, baselines={"compute_matched": {"multiple_features": 2.0}})
    assert not both.changes(plain).refused
    assert len(both.changes(plain).extended) >= 2
    assert both.changes(config(placebo=True)).refused == ()
    assert plain.changes(both).refused
    assert config(placebo=True, baselines={"compute_matched": {"multiple_features": 3.0}}).changes(both).refused
