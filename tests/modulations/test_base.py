"""What every method is checked for when its class and its settings are made."""

import math
from dataclasses import dataclass

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.base import RULES, Modulation


def test_a_method_with_the_old_name_of_min_epochs_is_refused() -> None:
    with pytest.raises(UserError, match=r"Late\.settled_after` must be called `min_epochs`"):

        class Late(Modulation):
            name = ""

            def settled_after(self, epochs: int) -> int:
                return 5


@dataclass
class Demanding(Modulation):
    name = ""
    rate: float = 1.0


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        ("{} >= 0", [0, 3.0], [-0.1]),
        ("{} > 0", [0.1], [0, -1]),
        ("{} >= 1", [1, 5], [0, 0.9]),
        ("0 <= {} <= 1", [0, 1], [-0.1, 1.1]),
        ("0 < {} <= 1", [0.1, 1], [0, 1.1]),
    ],
)
def test_a_setting_that_breaks_a_rule_is_named_with_the_rule_and_its_value(
    rule: str, kept: list[float], broken: list[float]
) -> None:
    assert rule in RULES
    for value in kept:
        Demanding(rate=value).demand(rule, "rate")
    for value in [*broken, math.nan]:
        method = Demanding()
        method.rate = value
        with pytest.raises(UserError) as error:
            method.demand(rule, "rate")
        assert str(error.value) == f"`{rule.format('rate')}` must hold for , but got {value!r}."
