"""Entries of `methods`: the name of a method, or an arm with a name and fixed settings of its own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from balance_tune.studies.config.study_method import StudyMethod

WRITTEN: dict[str, Any] = {"name": "a_b", "method": "mlb", "set": {"head": False, "training.weight_decay": 0.001}}


def read(value: Any) -> StudyMethod:
    return StudyMethod.model_validate(value)


@pytest.mark.parametrize("value", ["mlb", WRITTEN, {"name": "x", "method": "mlb", "set": {}}])
def test_it_is_written_as_it_was_read(value: Any) -> None:
    assert read(value).model_dump() == value
    assert read(read(value).model_dump()) == read(value)


def test_settings_of_training_and_method_are_told_apart() -> None:
    entry = read(WRITTEN)
    assert entry.fixed("modulation") == {"head": False}
    assert entry.fixed("training") == {"weight_decay": 0.001}
    assert entry.where("training", "weight_decay") == "methods.a_b.set.training.weight_decay"
    assert entry.where("modulation", "head") == "methods.a_b.set.head"


def test_it_says_what_it_is() -> None:
    assert read("mlb").description is None
    assert read(WRITTEN).description == "mlb with head = false, training.weight_decay = 0.001"
    assert read({"name": "x", "method": "mlb"}).description == "mlb under another name"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "a b", "method": "mlb"}, "must be letters, digits and `_`"),
        ({"name": "a-b", "method": "mlb"}, "must be letters, digits and `_`"),
        ({"name": "../a", "method": "mlb"}, "must be letters, digits and `_`"),
        ({"name": "training", "method": "mlb"}, "not be `training`"),
        ({"name": "a", "methd": "mlb"}, "`methd` is not a setting of an arm in `methods`. Did you mean `method`?"),
        ({"name": "a"}, "`method` is nothing"),
        ({"method": "mlb", "set": {}}, "`name` is nothing"),
        ({"name": "a", "method": "mlb", "set": {"alpha": [1, 2]}}, "what is searched belongs in `search.space.a`"),
        ({"name": "a", "method": "mlb", "set": {"alpha": None}}, "must give each setting one value"),
        (["mlb"], "must hold names and mappings"),
    ],
)
def test_what_it_cannot_be_is_refused(value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(value)
    assert words in str(caught.value)
