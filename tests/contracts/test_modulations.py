"""Every method that ships is held to the same demands, over all fusions and two, three and four modalities.

The whole table is marked `full`; each method's own share of it runs always, chosen so that together the methods meet
every fusion with every number of modalities.
"""

from typing import Any

import pytest

from balance_tune.registry import fusions, modulations
from balance_tune.testing.modulations import Case, ModulationContract

OURS = [name for name, cls in modulations().classes().items() if cls.__module__.startswith("balance_tune.")]

# What a method needs to run and act within three epochs of three steps, where its defaults do not.
SETTINGS: dict[str, dict[str, Any]] = {
    "arl": {"gamma": 0.5},  # at 4 it diverges at the tiny runs' large learning rate
    "umt": {"scaling": 0.5},  # ten times the distance at the tiny runs' large learning rate diverges
}

# What the recipe needs so that a method learns in eight epochs.
TRAINING: dict[str, dict[str, Any]] = {
    "sample_valuation": {"lr": 0.01},  # its epochs have up to four times the steps
}

# The reason why two workers cannot equal one; noise and masks are none.
WORKERS_DIFFER: dict[str, str] = {}

# The reason why a method may change nothing in so short a run.
MAY_REST = {
    "modality_valuation": "it adds samples only where modalities contribute unequally",
}

# How many of a method's always-run cases a costly demand is held to.
FEWER = {"test_two_workers_equal_one_on_the_whole_batch": 2, "test_a_worker_without_a_row_changes_nothing": 1}


def always(method: str) -> list[Case]:
    """Return what runs without being asked: the common case, and one fusion each with three and four modalities."""
    i, names = OURS.index(method), fusions().names()
    return [Case("concat", 2), Case(names[i % len(names)], 3), Case(names[(i + 3) % len(names)], 4)]


class Table(ModulationContract):
    @classmethod
    def cases(cls, test: str) -> list[Any]:
        spread = always(cls.method)[: FEWER.get(test)]
        return [case if case in spread else pytest.param(case, marks=pytest.mark.full) for case in super().cases(test)]


for _name in OURS:
    _title = "Test" + "".join(word.capitalize() for word in _name.split("_"))
    _own = {
        "__module__": __name__,
        "method": _name,
        "settings": SETTINGS.get(_name, {}),
        "training": TRAINING.get(_name, {}),
        "workers_differ": WORKERS_DIFFER.get(_name, ""),
        "may_rest": MAY_REST.get(_name, ""),
    }
    globals()[_title] = type(_title, (Table,), _own)


def test_no_exception_is_kept_for_a_method_that_is_gone() -> None:
    assert SETTINGS.keys() | TRAINING.keys() | WORKERS_DIFFER.keys() | MAY_REST.keys() <= set(OURS)


def test_the_spread_meets_every_fusion() -> None:
    assert {case.fusion for method in OURS for case in always(method)} == set(fusions().names())
