"""What the schema objects to, in one sentence: rule, value, nearest setting."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from balance_tune.studies.config.mistakes import sentence


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int = Field(default=1, ge=1, le=9)
    share: float = Field(default=0.5, gt=0, lt=1)
    kind: Literal["fast", "slow"] = "fast"


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    part: Part = Part()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "`name` must be given, but is not; a study needs at least name, datasets and methods."),
        ({"name": 3}, "`name` must be text, but got `3`."),
        ({"name": "a", "part": {"size": 0}}, "`part.size` must be at least 1, but got `0`."),
        ({"name": "a", "part": {"size": 10}}, "`part.size` must be at most 9, but got `10`."),
        ({"name": "a", "part": {"share": 0.0}}, "`part.share` must be above 0, but got `0.0`."),
        ({"name": "a", "part": {"share": 1.0}}, "`part.share` must be below 1, but got `1.0`."),
        ({"name": "a", "part": {"size": "two"}}, "`part.size` must be a whole number, but got `two`."),
        ({"name": "a", "part": 1}, "`part` must be settings as `key: value`, but got `1`."),
        ({"name": "a", "part": {"kind": "slwo"}}, "must be one of fast, slow, but got `slwo`. Did you mean `slow`?"),
        ({"name": "a", "part": {"siez": 2}}, "`siez` is not a setting of `part`. Did you mean `part.size`?"),
        ({"name": "a", "size": 2}, "`size` is not a setting of a study. Did you mean `part.size`?"),
        ({"name": "a", "part": {"xyz": 2}}, "`xyz` is not a setting of `part`. There are: size, share, kind."),
        ({"nam": "a"}, "`nam` is not a setting of a study. Did you mean `name`?"),
    ],
)
def test_a_mistake_is_told_with_its_rule_its_value_and_the_nearest_setting(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(raw)
    assert sentence(caught.value, Whole).endswith(said)
