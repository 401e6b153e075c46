"""A hyperparameter declared once: default, source, range and scale together, as a dataclass field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from balance_tune.errors import UserError

Value = float | int | str | bool | None
Kind = Literal["float", "int", "categorical"]


@dataclass(frozen=True)
class Tunable:
    """One hyperparameter's default, range (both ends inside) or choices, scale, and where the default is from."""

    default: Value
    low: float | int | None
    high: float | int | None
    log: bool
    choices: tuple[Value, ...] | None
    source: str

    @property
    def kind(self) -> Kind:
        """What it is searched as: one of choices, a whole number or a float."""
        if self.choices is not None:
            return "categorical"
        return "int" if isinstance(self.default, int) and not isinstance(self.default, bool) else "float"


def tunable(
    default: Value,
    *,
    low: float | int | None = None,
    high: float | int | None = None,
    log: bool = False,
    choices: Sequence[Value] | None = None,
    source: str,
) -> Any:
    """Return a dataclass field that a study may search, from `low` to `high` or among `choices`.

    Args:
        default: the value of trial 0.
        low: lower end of the range, for numbers.
        high: its upper end.
        log: whether the range is searched on a log scale.
        choices: what is searched instead of a range.
        source: where default and range come from: paper, section, code.

    Raises:
        UserError: the range is upside down, a log range reaches zero, the default lies outside, or both or neither of
            range and choices are given.
    """
    if (choices is None) == (low is None or high is None):
        raise UserError(f"a tunable needs either low and high, or choices, but got ({low=}, {high=}, {choices=}).")
    if choices is not None:
        if default not in choices:
            raise UserError(f"`default in choices` must hold, but got ({default=}, {choices=}).")
    elif low is not None and high is not None:
        if not low <= high:
            raise UserError(f"`low <= high` must hold, but got ({low=}, {high=}).")
        if log and low <= 0:
            raise UserError(f"`low > 0` must hold on a log scale, but got ({low=}).")
        if not isinstance(default, int | float) or not low <= default <= high:
            raise UserError(f"`low <= default <= high` must hold, but got ({default=}, {low=}, {high=}).")
    spec = Tunable(default, low, high, log, None if choices is None else tuple(choices), source)
    return dataclasses.field(default=default, metadata={"tunable": spec})


def tunables(owner: Any) -> dict[str, Tunable]:
    """Return field name -> `Tunable` of a dataclass (or an instance of one), in the order of declaration."""
    return {f.name: f.metadata["tunable"] for f in dataclasses.fields(owner) if "tunable" in f.metadata}


def words(owner: type) -> Mapping[str, tuple[Value, ...]]:
    """Return field name -> what it may be, for a dataclass's fields of a type `Literal[...]`."""
    return _words(owner)


@cache
def _words(owner: type) -> Mapping[str, tuple[Value, ...]]:
    try:
        hints = get_type_hints(owner)
    except NameError:  # a third party may import its types for the type checker alone
        return {}
    fields = [f.name for f in dataclasses.fields(owner)]
    return {name: get_args(hints[name]) for name in fields if get_origin(hints[name]) is Literal}


def check_values(owner: str, names: Sequence[str], values: dict[str, Any]) -> None:
    """Raise a `UserError` when `values` has a name that is not among `names`; the nearest comes first."""
    from balance_tune.registry import unknown

    for name in values:
        if name not in names:
            raise unknown(f"a setting of {owner}", name, list(names))
