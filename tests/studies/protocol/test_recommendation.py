"""The point that one should use of an arm."""

from __future__ import annotations

from typing import Any

from balance_tune.studies.protocol.recommendation import recommend
from balance_tune.studies.protocol.selection import Rule, point_key
from balance_tune.studies.storage.records import TrialRecord

RULE = Rule(points=1, select_seeds=1, confirm_seeds=1, default_seeds=1)
DEFAULT = {"x": 0.5}


def cell(replicate: int, point: float, selected: float, confirmed: float | None) -> list[TrialRecord]:
    """Return a replicate in which `point` has these validation values, and the default 0.8 in every phase."""
    rule = RULE.at("d/m", replicate)
    records: list[TrialRecord] = []

    def add(phase: Any, params: dict[str, float], seed: int, value: float) -> None:
        number = sum(r.phase == phase or "search" not in (r.phase, phase) for r in records)
        attrs = {"default": params == DEFAULT, "point": point_key(params)}
        records.append(TrialRecord(
            "d/m", "d", "m", phase, number, "complete", params, seed, value, {1: value}, attrs, replicate=replicate
        ))  # fmt: skip

    add("search", DEFAULT, 1, 0.8)
    add("search", {"x": point}, 2, selected)
    for params, value in ((DEFAULT, 0.8), ({"x": point}, selected)):
        add("select", params, rule.seeds("select")[0], value)
    if confirmed is not None:
        for params, value in ((DEFAULT, 0.8), ({"x": point}, confirmed)):
            add("confirm", params, rule.seeds("confirm")[0], value)
    return records


def test_the_point_with_the_largest_lead_on_fresh_seeds_is_recommended() -> None:
    found = recommend({0: cell(0, 0.1, 0.95, 0.81), 1: cell(1, 0.2, 0.85, 0.9), 2: cell(2, 0.5, 0.8, None)}, RULE)
    assert found is not None
    assert found.point.params == {"x": 0.2}  # 0.1 looked better when it was chosen
    assert (found.chosen, found.default_kept, found.replicates) == (1, 1, 3)
    assert found.lead is not None
    assert abs(found.lead - 0.1) < 1e-12


def test_the_default_is_recommended_where_most_replicates_kept_it() -> None:
    found = recommend({0: cell(0, 0.1, 0.95, 0.99), 1: cell(1, 0.2, 0.7, None), 2: cell(2, 0.3, 0.6, None)}, RULE)
    assert found is not None
    assert found.point.default
    assert (found.default_kept, found.replicates) == (2, 3)


def test_nothing_is_recommended_before_a_replicate_has_chosen() -> None:
    assert recommend({}, RULE) is None
    assert recommend({0: cell(0, 0.1, 0.9, 0.9)[:2]}, RULE) is None
