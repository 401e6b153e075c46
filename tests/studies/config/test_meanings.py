"""Every key of a study file has a meaning in sentences and an example that the schema takes."""

from __future__ import annotations

import pytest

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.meanings import MEANINGS
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.reference import keys

MINIMAL = {"name": "study", "datasets": ["av_digits"], "methods": ["joint"]}


def test_every_key_is_listed_once_and_no_other() -> None:
    assert sorted(key.path for key in keys()) == sorted(MEANINGS)


@pytest.mark.parametrize("path", MEANINGS)
def test_a_meaning_is_sentences(path: str) -> None:
    text = MEANINGS[path].text
    assert text[0].isupper() or text[0] == "`"
    assert text.endswith(".")
    assert text.count("`") % 2 == 0


@pytest.mark.parametrize("path", MEANINGS)
def test_an_example_is_a_value_that_a_study_may_have(path: str) -> None:
    text = MEANINGS[path].example
    written = strict_yaml.parse(text)
    named = {**MINIMAL, "model": {"name": "my_package.models:build"}} if path == "model.settings" else MINIMAL
    config = read_config(named, [f"{path.replace('DATASET', 'av_digits')}={text}"])
    value = config.model_dump(mode="json")
    for part in path.replace("DATASET", "av_digits").split("."):
        value = value[part]
    if isinstance(written, dict):
        assert written.items() <= value.items() or set(written) <= set(value)
    elif path == "search.early_stopping":
        assert value["kind"] == written
    else:
        assert value == written
