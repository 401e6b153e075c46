"""Values read from files against the types that their dataclasses say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from balance_tune.kinds import misfit


@dataclass(frozen=True)
class Inner:
    size: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    value: float | None
    pair: tuple[float, str]
    inner: Mapping[str, Inner]
    rest: dict[str, Any]


RIGHT: dict[str, Any] = {
    "kind": "a",
    "value": 1,
    "pair": (0.5, "x"),
    "inner": {"i": Inner(3, ("n",))},
    "rest": {"anything": [object()]},
}


def test_what_is_of_its_types_fits() -> None:
    assert misfit(Outer(**RIGHT), Outer) is None
    assert misfit(Outer(**{**RIGHT, "value": None, "inner": {}}), Outer) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "c"}, "it.kind is 'c', not one of a, b"),
        ({"value": "1"}, "it.value is '1', not float"),
        ({"value": True}, "it.value is True, not float"),
        ({"pair": (1.0,)}, "it.pair has 1 entries, not 2"),
        ({"pair": (1.0, 2)}, "it.pair[1] is 2, not str"),
        ({"inner": [3]}, "it.inner is [3], not Mapping"),
        ({"inner": {"i": {"size": 3}}}, "it.inner.i is {'size': 3}, not Inner"),
        ({"inner": {"i": Inner("3", ())}}, "it.inner.i.size is '3', not int"),  # type: ignore[arg-type]
        ({"inner": {"i": Inner(3, ("n", 4))}}, "it.inner.i.names[1] is 4, not str"),  # type: ignore[arg-type]
        ({"rest": {3: 4}}, "a key of it.rest is 3, not str"),
    ],
)
def test_the_first_thing_that_is_not_is_named_with_its_place(change: dict[str, Any], said: str) -> None:
    assert misfit(Outer(**{**RIGHT, **change}), Outer) == said
