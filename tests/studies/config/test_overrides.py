"""`key=value` sets one entry of a study file."""

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.overrides import with_overrides


def test_a_value_is_read_as_yaml() -> None:
    made = with_overrides({}, ["a=[x, 1]", "b.c=1e-3", "d={e: true}", "f=", "g=a=b", "h='4'"])
    assert made == {"a": ["x", 1], "b": {"c": 0.001}, "d": {"e": True}, "f": None, "g": "a=b", "h": "4"}


def test_what_is_not_named_stays() -> None:
    raw = {"search": {"trials": 3, "sampler": "tpe"}, "seed": 1}
    assert with_overrides(raw, ["search.trials=4"]) == {"search": {"trials": 4, "sampler": "tpe"}, "seed": 1}
    assert raw["search"] == {"trials": 3, "sampler": "tpe"}


def test_the_last_of_several_holds() -> None:
    assert with_overrides({}, ["a=1", "a=2"]) == {"a": 2}


@pytest.mark.parametrize(
    "override",
    ["", "a", "=1", ".a=1", "a.=1", "a..b=1", "a=[", "a=*b", "a=.nan", "s.x=1", ".".join(["a"] * 3000) + "=1"],
)
def test_what_is_no_override_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(UserError) as caught:
        with_overrides({"s": "text"}, [override])
    assert len(str(caught.value).splitlines()) == 1
