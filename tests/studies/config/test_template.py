"""The study file that `balance-tune init` writes: it loads, and with every key set free it says the defaults."""

from __future__ import annotations

import re

from balance_tune.settings import TrainingSettings
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.reference import keys
from balance_tune.studies.config.template import WIDTH, template
from balance_tune.studies.loading import load_config
from balance_tune.tunable import tunables

GIVEN = {"name": "mine", "datasets": ["av_digits"], "methods": ["joint", "ogm_ge", "mlb"]}
HIDDEN = re.compile(r"^( *)#(?=\w+:)", re.MULTILINE)


def test_the_file_is_a_study_that_can_start() -> None:
    assert load_config(strict_yaml.parse(template("mine"))) == load_config(GIVEN)


def test_with_every_hash_removed_it_states_every_default() -> None:
    raw = strict_yaml.parse(HIDDEN.sub(r"\1", template("mine")))
    training = {name: spec.default for name, spec in tunables(TrainingSettings).items()}
    assert raw["training"] == training
    assert read_config(raw) == read_config({**GIVEN, "training": training})
    for key in keys():
        if "DATASET" not in key.path:
            value = raw
            for part in key.path.split("."):
                assert part in value, key.path
                value = value[part]


def test_every_key_has_its_meaning_above_it() -> None:
    text = " ".join(line.strip().removeprefix("# ") for line in template("mine").splitlines())
    for key in keys():
        if "DATASET" not in key.path:
            assert key.meaning in text, key.path
    assert all(len(line) <= WIDTH for line in template("mine").splitlines())
