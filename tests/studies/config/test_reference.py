"""The page of all keys is made from the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from balance_tune.settings import TrainingSettings
from balance_tune.studies.config.reference import REQUIRED, as_markdown, as_yaml, keys
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.tunable import tunables

PAGE = Path(__file__).parents[3] / "docs" / "study-file.md"


def test_the_page_has_not_drifted() -> None:
    command = [sys.executable, "-m", "balance_tune.studies.config.reference"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert PAGE.read_text() == made.stdout, "run: python -m balance_tune.studies.config.reference > docs/study-file.md"
    assert made.stdout == as_markdown()


def test_keys_and_defaults_are_those_of_the_schema() -> None:
    minimal = {"name": "study", "datasets": ["av_digits"], "methods": ["joint"]}
    default = StudyConfig.model_validate(minimal).model_dump(mode="json")
    by_path = {key.path: key for key in keys()}
    assert {path for path in by_path if "." not in path} == set(StudyConfig.model_fields)
    assert [path for path, key in by_path.items() if key.default is REQUIRED] == ["name", "datasets", "methods"]
    for path, key in by_path.items():
        if key.section or key.default is REQUIRED or "DATASET" in path or path.startswith("training."):
            continue
        value = default
        for part in path.split("."):
            value = value[part]
        assert key.default == value, path
    assert {p.removeprefix("training.") for p in by_path if p.startswith("training.")} == set(
        tunables(TrainingSettings)
    )


def test_a_type_states_choices_and_bounds() -> None:
    kinds = {key.path: key.kind for key in keys()}
    assert kinds["search.trials"] == "whole number from 1 to 100,000"
    assert kinds["limit.hours"] == "number above 0 to 1,000,000"
    assert kinds["checkpoints"] == "`all`, `confirmed` or `best`"
    assert kinds["resources.gpus_per_trial"] == "number or `auto`"
    assert kinds["training.optimizer"] == "`sgd`, `adamw` or `adam`"
    assert kinds["datasets"] == "list of names"
    assert kinds["methods"] == "list of names and mappings"
    assert kinds["missing.train"] == "number or mapping"
    assert kinds["missing.test"] == "list of numbers"
    assert kinds["model.encoders"] == "mapping"


def test_defaults_are_written_as_yaml() -> None:
    assert [as_yaml(value) for value in (None, {}, 1e-4, True, "val/accuracy")] == [
        "",
        "{}",
        "0.0001",
        "true",
        "val/accuracy",
    ]


def test_every_key_is_a_row_of_the_page() -> None:
    text = PAGE.read_text()
    for key in keys():
        assert f"`{key.path}`" in text
        assert key.meaning.replace("|", "\\|") in text
