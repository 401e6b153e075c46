"""Tells an extension of a study (more of the same) from a change that would make its results incomparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.wording import shown

MAY_GROW = (
    "replicates",
    "search.trials",
    "search.device_seconds",
    "select.seeds",
    "confirm.seeds",
    "confirm.default_seeds",
)
MAY_BE_ADDED_TO = ("datasets", "methods")
MAY_CHANGE = (
    "limit",
    "resources",
    "runner",
    "price_per_device_hour",
    "mlflow",
    "checkpoints",
)  # how it is run, not what is run

WHOLE = "augment"  # compared as a whole: an empty entry has a meaning
MAY_MOVE = "data.stores."  # where data lies; that it is the same is checked by its hash


@dataclass(frozen=True)
class Changes:
    """What differs between a study as begun and as asked for now, one phrase for each setting."""

    extended: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.extended or self.refused)

    def check(self, name: str) -> None:
        """Raise a one-line `UserError` where study `name` cannot go on under its name."""
        if self.refused:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            raise UserError(
                "a study that has begun can be given more trials, methods, datasets and seeds, other limits and "
                f"resources, and nothing else, but in `{name}` {self.refused[0]}{more}; undo it, or use another `name`."
            )


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Return the differences of two studies given as plain data with all defaults written out."""
    before, after = (dict(_leaves(_by_name({k: v for k, v in x.items() if k != WHOLE}))) for x in (old, new))
    arms = tuple(f"methods.{name}." for name in set(after["methods"]) - set(before["methods"]))
    added = _sections(new) - _sections(old)
    extended: list[str] = []
    refused: list[str] = []
    if old.get(WHOLE, {}) != new.get(WHOLE, {}):
        refused.append(f"`{WHOLE}` changed from {shown(old.get(WHOLE, {}))} to {shown(new.get(WHOLE, {}))}")
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key), after.get(key)
        if was == now or key.startswith((MAY_MOVE, *arms)):  # arms that were added are reported under `methods`
            continue
        phrase = f"`{key}` changed from {shown(was)} to {shown(now)}"
        (extended if _extends(key, was, now, added) else refused).append(phrase)
    return Changes(tuple(extended), tuple(refused))


def _extends(key: str, was: Any, now: Any, added_sections: set[str]) -> bool:
    if key.split(".")[0] in MAY_CHANGE:
        return True
    if key == "placebo" or key.startswith("baselines.compute_matched"):  # an arm more
        return not was
    if key in MAY_GROW:
        return was is not None and now is not None and bool(now > was)
    if key in MAY_BE_ADDED_TO:
        return set(was) <= set(now)
    return key.startswith(tuple(f"search.space.{section}." for section in added_sections))


def _entry_of(entry: Any) -> Mapping[str, Any]:
    """Return an entry of `methods` as name, method and set."""
    return {"name": entry, "method": entry, "set": {}} if isinstance(entry, str) else entry


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study with the names of its arms in `methods`, and what a named arm is under `methods.NAME`."""
    arms = {entry["name"]: entry for entry in config["methods"] if not isinstance(entry, str)}
    details = {f"methods.{name}": {"method": arm["method"], "set": arm["set"]} for name, arm in arms.items()}
    return {**config, "methods": [_entry_of(entry)["name"] for entry in config["methods"]], **details}


def _sections(config: Mapping[str, Any]) -> set[str]:
    """Return the sections of `search.space` that some arm of a study searches."""
    return {_entry_of(entry)[key] for entry in config["methods"] for key in ("name", "method")}


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item
