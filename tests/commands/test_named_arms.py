"""What the commands make of arms that a study file gives names and settings of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.commands.best import configuration
from balance_tune.commands.status import progress
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of
from tests.studies.results.rows import row_like

HEADLESS = {"name": "headless", "method": "mlb", "set": {"head": False, "training.weight_decay": 0.25}}


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    space = {"mlb": {"alpha": {"low": 0.2, "high": 0.9}}, "headless": {"weight": 0.5}}
    return load_config(
        {
            "name": "s",
            "datasets": ["av_digits"],
            "methods": ["mlb", HEADLESS],
            "search": {"space": space},
            "missing": {"test": [0.5]},
        }
    )


def test_the_best_of_a_named_arm_is_a_study_file_of_that_arm(config: StudyConfig) -> None:
    params = {"training.lr": 0.03, "modulation.alpha": 0.7, "modulation.beta_max": 3.0}
    row = row_like("headless", dataset="av_digits", params=params)
    row = type(row)(**{**vars(row), "arm": "av_digits/headless"})
    made: dict[str, Any] = configuration(config, Path("/r/s"), row)
    assert made["trial"]["method"] == "mlb"
    again = load_config(made["study"])
    assert again.missing == config.missing
    arm = next(arm for arm in arms_of(again) if arm.name == "av_digits/headless")
    assert arm.space.parameters == ()
    assert arm.settings({}, "modulation") == made["trial"]["modulation"]
    assert arm.settings({}, "training") == made["trial"]["training"]
    assert (made["trial"]["modulation"]["head"], made["trial"]["modulation"]["weight"]) == (False, 0.5)
    assert (made["trial"]["training"]["weight_decay"], made["trial"]["training"]["lr"]) == (0.25, 0.03)


def test_the_status_has_a_row_for_every_named_arm(config: StudyConfig) -> None:
    assert [row["arm"] for row in progress(config, [])] == ["av_digits/joint", "av_digits/mlb", "av_digits/headless"]


def test_methods_of_a_command_line_may_have_names() -> None:
    raw = {"name": "s", "datasets": ["av_digits"], "methods": ["joint"]}
    config = load_config(raw, ["methods=[{name: early, method: ogm, set: {end: 0.6}}]", "search.space.early.alpha=1.0"])
    assert [arm.label for arm in arms_of(config)] == ["joint", "early"]
