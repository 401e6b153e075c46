"""Studies of real data: trial 0 is the published recipe, and every study has a miniature."""

from pathlib import Path

import pytest

from balance_tune.datasets.distribution import Distribution
from balance_tune.registry import datasets
from balance_tune.studies.cluster.ray_cluster import trial_resources
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.miniature import miniature
from balance_tune.studies.protocol.arms import arms_of

STUDIES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
NAMES = [path.stem for path in STUDIES]


@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_trial_0_is_the_recipe_of_the_dataset(path: Path) -> None:
    config = read_config(path)
    for arm in arms_of(config):
        recipe = datasets().get(arm.dataset).recipe
        defaults = arm.settings(arm.space.defaults(), "training")
        assert all(defaults[name] == value for name, (value, _) in recipe.items() if name not in config.training)


@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_its_miniature_can_start_and_keeps_every_dataset(path: Path) -> None:
    config = read_config(path)
    plain, _ = miniature(config)
    small = read_config(plain)
    assert small.datasets == config.datasets
    assert trial_resources(small.resources, {"CPU": 1}).slots == 1  # it runs on any machine
    assert arms_of(small)


def test_every_real_family_has_a_study_and_is_in_the_one_across_them() -> None:
    families = {cls.family for cls in datasets().classes().values() if issubclass(cls, Distribution)}
    across = set(read_config(STUDIES[NAMES.index("across")]).datasets)
    assert families - {"mosi"} <= across
    assert families - {"mosi"} <= set(NAMES)
