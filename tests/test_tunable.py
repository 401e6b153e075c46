"""A hyperparameter's declaration refuses what could not be searched."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.ogm import Ogm
from balance_tune.tunable import check_values, tunable, tunables, words


@dataclass
class Example:
    fixed: int = 3
    rate: float = tunable(0.1, low=0.01, high=1.0, log=True, source="a paper")
    count: int = tunable(2, low=1, high=4, source="a paper")
    kind: str = tunable("a", choices=("a", "b"), source="a paper")


def test_only_declared_fields_are_tunable_in_their_order_and_kind() -> None:
    assert [(n, t.kind) for n, t in tunables(Example).items()] == [
        ("rate", "float"),
        ("count", "int"),
        ("kind", "categorical"),
    ]
    assert Example().rate == 0.1


@pytest.mark.parametrize(
    ("kwargs", "rule"),
    [
        ({"low": 2.0, "high": 1.0}, "low <= high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low > 0"),
        ({"low": 2.0, "high": 3.0}, "low <= default <= high"),
        ({"choices": (0.5, 2.0)}, "default in choices"),
        ({}, "either low and high, or choices"),
        ({"low": 0.0, "high": 1.0, "choices": (1.0,)}, "either low and high, or choices"),
    ],
)
def test_a_bad_declaration_is_refused_with_its_rule(kwargs: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        tunable(1.0, source="test", **kwargs)  # type: ignore[arg-type]


def test_an_unknown_setting_names_the_nearest_one() -> None:
    with pytest.raises(UserError, match="did you mean `alpha`"):
        check_values("method ogm", ["alpha", "end"], {"alhpa": 1})


def test_words_are_the_fields_of_a_literal_type() -> None:
    assert words(Ogm)["apply_to"] == ("grad", "lr")
    assert words(Example) == {}
