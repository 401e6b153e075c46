"""Every study file that is shipped can start."""

from pathlib import Path

import pytest

from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_study_files() -> None:
    assert FOLDER / "quickstart.yaml" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_study_file_loads_and_is_named_after_its_file(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert arms_of(config)


def test_the_quickstart_has_twelve_arms_in_five_replicates() -> None:
    config = load_config(FOLDER / "quickstart.yaml")
    arms = [arm.name for arm in arms_of(config)]
    methods = ("joint", "ogm_ge", "opm", "mlb", "relearning", "placebo")
    assert config.replicates == 5
    assert arms == [f"{dataset}/{method}" for dataset in ("av_digits", "multiple_features") for method in methods]
