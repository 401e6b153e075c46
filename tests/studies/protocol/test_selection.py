"""Selection and confirmation follow from the records alone, and never from a test metric."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.protocol.selection import (
    PHASE_SEEDS,
    PendingTrial,
    Rule,
    candidates,
    confirmed,
    due,
    in_round,
    is_decided,
    point_key,
    seed_of,
    select_trainings,
    winner,
)
from balance_tune.studies.storage.records import Phase, State, TrialRecord
from balance_tune.tasks import Objective

RULE = Rule(points=2, select_seeds=2, confirm_seeds=4, default_seeds=3)


def trial(
    phase: Phase, number: int, x: float, value: float | None, seed: int = 0, state: State = "complete", **attrs: Any
) -> TrialRecord:
    return TrialRecord(
        "toy/mlb", "toy", "mlb", phase, number, state, params={"x": x}, seed=seed, value=value, attrs=attrs
    )


def search() -> list[TrialRecord]:
    """Return a finished search: the default is mediocre, 0.3 is best, one point was stopped and one failed."""
    return [
        trial("search", 0, 0.5, 0.80, default=True),
        trial("search", 1, 0.3, 0.90),
        trial("search", 2, 0.4, 0.85),
        trial("search", 3, 0.1, 0.95, state="pruned"),
        trial("search", 4, 0.2, None, state="failed"),
        trial("search", 5, 0.6, 0.70),
    ]


def play(records: list[TrialRecord], rule: Rule, score: Callable[[PendingTrial], float | None]) -> list[TrialRecord]:
    """Run what is due until nothing is; a score of None is a failure."""
    while todo := due(records, rule):
        for d in todo:
            value = score(d)
            state: State = "failed" if value is None else "complete"
            records.append(trial(d.phase, len(records), d.params["x"], value, d.seed, state, point=d.point))
    return records


def values_of(points: Sequence[Any]) -> list[float]:
    return [p.params["x"] for p in points]


def test_the_best_completed_points_and_the_default_are_candidates() -> None:
    assert values_of(candidates(search(), RULE)) == [0.3, 0.4, 0.5]


def test_a_default_among_the_best_is_not_tried_twice() -> None:
    records = [trial("search", 0, 0.5, 0.99, default=True), *search()[1:]]
    assert values_of(candidates(records, RULE)) == [0.5, 0.3, 0.4]
    assert [p.default for p in candidates(records, RULE)] == [True, False, False]


def test_where_too_few_completed_the_stopped_that_got_furthest_are_candidates() -> None:
    records = [
        trial("search", 0, 0.5, 0.80, default=True),
        trial("search", 1, 0.1, 0.95, state="pruned", epochs=3),
        trial("search", 2, 0.2, 0.70, state="pruned", epochs=9),
        trial("search", 3, 0.3, 0.60),
        trial("search", 4, 0.4, None, state="failed"),
        trial("search", 5, 0.6, 0.96, state="pruned", epochs=3),
    ]
    assert values_of(candidates(records, RULE)) == [0.5, 0.3, 0.2]
    three = Rule(points=3, select_seeds=2, confirm_seeds=4, default_seeds=3)
    assert values_of(candidates(records, three)) == [0.5, 0.3, 0.2, 0.6]
    assert values_of([p for p in candidates(records, three) if p.value is not None]) == [0.5, 0.3]


def test_every_arm_selects_as_many_points_whatever_its_search_came_to() -> None:
    stopped = [trial("search", n, n / 10, 0.5, state="pruned", epochs=3) for n in range(1, 6)]
    default = trial("search", 0, 0.9, 0.8, default=True)
    for records in (search(), [default, *stopped], [default, *search()[1:4]]):
        played = play(list(records), RULE, lambda d: 0.5)
        assert sum(r.phase == "select" for r in played) == select_trainings(RULE.points, RULE.select_seeds) == 5


def test_a_failed_point_is_no_candidate() -> None:
    records = [trial("search", 0, 0.5, 0.8, default=True), trial("search", 1, 0.1, None, state="failed")]
    assert values_of(candidates(records, RULE)) == [0.5]


def test_the_same_point_twice_is_one_candidate_with_its_better_value() -> None:
    records = [*search(), trial("search", 6, 0.3, 0.99)]
    assert values_of(candidates(records, RULE)) == [0.3, 0.4, 0.5]
    assert candidates(records, RULE)[0].value == 0.99


def test_a_default_that_failed_in_the_search_is_selected_all_the_same() -> None:
    records = [trial("search", 0, 0.5, None, state="failed", default=True), *search()[1:]]
    assert values_of(candidates(records, RULE))[-1] == 0.5


def test_ties_go_to_the_earlier_trial() -> None:
    records = [trial("search", n, n / 10, 0.9) for n in range(5)]
    assert values_of(candidates(records, RULE)) == [0.0, 0.1]


def test_a_loss_is_made_small() -> None:
    rule = Rule(points=1, select_seeds=1, confirm_seeds=2, default_seeds=0, objective=Objective("val/loss"))
    assert values_of(candidates(search(), rule)) == [0.6, 0.5]
    done = play(search(), rule, lambda d: float(d.params["x"]))
    best = winner(done, rule)
    assert best is not None
    assert best.params == {"x": 0.5}


def test_a_point_that_failed_on_a_selection_seed_ranks_behind_every_point_that_did_not() -> None:
    first, _ = RULE.seeds("select")
    scores = {0.3: 0.99, 0.4: 0.7, 0.5: 0.6}
    records = play(search(), RULE, lambda d: None if (d.params["x"], d.seed) == (0.3, first) else scores[d.params["x"]])
    best = winner(records, RULE)
    assert best is not None
    assert best.params == {"x": 0.4}


def test_of_points_that_all_failed_on_the_first_seed_the_better_one_of_the_search_goes_on() -> None:
    first, _ = RULE.seeds("select")
    scores = {0.3: 0.7, 0.4: 0.8, 0.5: 0.6}
    records = play(search(), RULE, lambda d: None if d.seed == first else scores[d.params["x"]])
    best = winner(records, RULE)
    assert best is not None
    assert best.params == {"x": 0.3}


def test_every_candidate_is_on_the_first_seed_and_the_better_half_with_the_default_on_the_second() -> None:
    first, second = RULE.seeds("select")
    todo = due(search(), RULE)
    assert [(d.phase, d.params["x"], d.seed) for d in todo] == [("select", x, first) for x in (0.3, 0.4, 0.5)]
    scores = {0.3: 0.7, 0.4: 0.9, 0.5: 0.1}
    begun = [
        trial(d.phase, 10 + i, d.params["x"], scores[d.params["x"]], d.seed, point=d.point) for i, d in enumerate(todo)
    ]
    assert due(search() + begun[:2], RULE) == todo[2:]
    assert [(d.params["x"], d.seed) for d in due(search() + begun, RULE)] == [(0.4, second), (0.5, second)]


def test_rounds_halve_down_to_one_point() -> None:
    assert [in_round(7, i) for i in range(5)] == [7, 4, 2, 1, 1]
    assert select_trainings(7, 3) == 8 + 5 + 3
    assert select_trainings(4, 0) == 0


def test_records_in_which_all_points_are_on_all_seeds_are_read_as_they_are() -> None:
    """Studies of before 0.2 trained every point on every seed: what they chose stays chosen."""
    seeds, scores = RULE.seeds("select"), {0.3: (0.7, 0.9), 0.4: (0.72, 0.7), 0.5: (0.1, 0.1)}
    whole = [
        trial("select", 10 + i, x, own[k], seed, point=point_key({"x": x}))
        for i, (x, own) in enumerate(scores.items())
        for k, seed in enumerate(seeds)
    ]
    best = winner(search() + whole, RULE)
    assert best is not None
    assert best.params == {"x": 0.3}


def test_more_selection_seeds_later_add_a_round() -> None:
    records = play(search(), RULE, lambda d: d.params["x"])
    more = Rule(points=2, select_seeds=3, confirm_seeds=4, default_seeds=3)
    assert [(d.params["x"], d.seed) for d in due(records, more)] == [(x, more.seeds("select")[2]) for x in (0.4, 0.5)]


def test_the_winner_has_the_best_mean_of_its_selection_not_of_its_search() -> None:
    records = play(search(), RULE, lambda d: {0.3: 0.7, 0.4: 0.9, 0.5: 0.8}[d.params["x"]])
    best = winner(records, RULE)
    assert best is not None
    assert best.params == {"x": 0.4}


def test_no_winner_is_named_while_a_selection_trial_is_missing_or_running() -> None:
    todo = due(search(), RULE)
    begun = [trial(d.phase, 10 + i, d.params["x"], 0.9, d.seed, point=d.point) for i, d in enumerate(todo)]
    assert winner(search() + begun[:-1], RULE) is None
    running = trial("select", 99, todo[-1].params["x"], None, todo[-1].seed, "running", point=todo[-1].point)
    waiting = [*search(), *begun[:-1], running]
    assert winner(waiting, RULE) is None
    assert due(waiting, RULE) == []
    assert not is_decided(waiting, RULE)


def test_confirm_gives_the_winner_all_seeds_and_the_default_the_first_ones() -> None:
    records = play(search(), RULE, lambda d: 0.9 if d.params["x"] == 0.3 else 0.5)
    confirm = [r for r in records if r.phase == "confirm"]
    assert Counter(r.params["x"] for r in confirm) == {0.3: 4, 0.5: 3}
    assert [r.seed for r in confirm if r.params["x"] == 0.5] == RULE.seeds("confirm")[:3]
    assert is_decided(records, RULE)


def test_a_winning_default_is_confirmed_once() -> None:
    records = play(search(), RULE, lambda d: 0.9 if d.params["x"] == 0.5 else 0.5)
    confirm = [r for r in records if r.phase == "confirm"]
    assert Counter(r.params["x"] for r in confirm) == {0.5: 4}


def test_all_arms_of_a_study_are_confirmed_on_the_same_seeds() -> None:
    assert RULE.seeds("confirm") == [seed_of(0, "confirm", i) for i in range(4)]


def test_a_failed_selection_trial_is_done_and_its_point_ranks_last() -> None:
    failing = RULE.seeds("select")[0]
    records = play(search(), RULE, lambda d: None if (d.params["x"], d.seed) == (0.3, failing) else 0.5 + d.params["x"])
    best = winner(records, RULE)
    assert best is not None
    assert best.params == {"x": 0.5}
    assert is_decided(records, RULE)


def test_an_arm_whose_every_selection_failed_is_through_without_a_winner() -> None:
    records = play(search(), RULE, lambda d: None)
    assert winner(records, RULE) is None
    assert due(records, RULE) == []
    assert is_decided(records, RULE)


def test_a_failed_confirmation_trial_is_not_repeated() -> None:
    failing = RULE.seeds("confirm")[1]
    records = play(search(), RULE, lambda d: None if d.seed == failing else 0.9)
    best = winner(records, RULE)
    assert best is not None
    states = Counter(r.state for r in confirmed(records, RULE, best))
    assert states == {"complete": 3, "failed": 1}


def test_a_trial_lost_with_its_machine_is_due_again() -> None:
    lost = due(search(), RULE)[0]
    record = trial(lost.phase, 50, lost.params["x"], None, lost.seed, "failed", point=lost.point, requeued_as=True)
    assert lost in due([*search(), record], RULE)


def test_without_selection_seeds_the_best_of_the_search_wins() -> None:
    rule = Rule(points=2, select_seeds=0, confirm_seeds=2, default_seeds=1)
    assert {d.phase for d in due(search(), rule)} == {"confirm"}
    best = winner(search(), rule)
    assert best is not None
    assert best.params == {"x": 0.3}


def test_an_arm_in_which_nothing_completed_confirms_its_default() -> None:
    records = [trial("search", 0, 0.5, None, state="failed", default=True)]
    assert {d.params["x"] for d in due(records, RULE)} == {0.5}


def test_more_confirmation_seeds_later_add_only_the_new_ones() -> None:
    records = play(search(), RULE, lambda d: 0.9 if d.params["x"] == 0.3 else 0.5)
    more = Rule(points=2, select_seeds=2, confirm_seeds=6, default_seeds=3)
    assert [d.seed for d in due(records, more)] == more.seeds("confirm")[4:]


def test_poisoned_test_metrics_change_nothing_that_is_chosen() -> None:
    def poisoned(records: list[TrialRecord]) -> list[TrialRecord]:
        return [
            TrialRecord(
                **{**vars(r), "attrs": {**r.attrs, "test": {"accuracy": 1.0 - (r.value or 0)}, "test/accuracy": 1}}
            )
            for r in records
        ]

    clean = play(search(), RULE, lambda d: float(d.params["x"]))
    assert due(poisoned(search()), RULE) == due(search(), RULE)
    assert winner(poisoned(clean), RULE) == winner(clean, RULE)


def test_the_seeds_of_the_phases_and_of_studies_never_meet() -> None:
    ranges = {
        (study, phase): range(seed_of(study, phase, 0), seed_of(study, phase, PHASE_SEEDS - 1) + 1)
        for study in (0, 1, 2, 2**32 - 1)
        for phase in ("search", "select", "confirm")
    }
    ordered = sorted(ranges.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ordered))
    assert max(r.stop for r in ordered) < 2**63  # what a generator takes


@pytest.mark.parametrize(("study", "index"), [(-1, 0), (0, -1), (0, PHASE_SEEDS)])
def test_a_seed_outside_its_range_is_refused(study: int, index: int) -> None:
    with pytest.raises(UserError, match="must hold"):
        seed_of(study, "search", index)


def test_a_point_has_one_key_however_its_parameters_are_ordered() -> None:
    assert point_key({"a": 0.1, "b": "x"}) == point_key({"b": "x", "a": 0.1})
    assert point_key({"a": 0.1}) != point_key({"a": 0.2})


def test_the_rule_is_read_from_a_resolved_study_file() -> None:
    config = {"select": {"points": 1, "seeds": 0}, "confirm": {"seeds": 7, "default_seeds": 2}, "seed": 3}
    assert Rule.of(config) == Rule(1, 0, 7, 2, 3)
    assert Rule.of({"select": {"margin": 0.5}}).margin == 0.5
    assert Rule.of({}) == Rule()


def _with_lead(lead: float, margin: float, *, spread: float = 0.0, units: tuple[str, str] | None = None) -> str:
    """Return the parameter of the winner where the best point is ahead of the default by `lead` on two seeds."""
    rule = Rule(points=1, select_seeds=2, confirm_seeds=2, margin=margin)
    first, second = rule.seeds("select")
    records = search()
    for x, value in ((0.3, 0.8 + lead), (0.5, 0.8)):
        attrs = {} if units is None else {"val_units": units[0 if x == 0.3 else 1]}
        point = point_key({"x": x})
        for seed, sign in ((first, 1), (second, -1)):
            records.append(trial("select", len(records), x, value + sign * spread, seed, point=point, **attrs))
    best = winner(records, rule)
    assert best is not None
    return str(best.params["x"])


def test_the_default_stays_unless_it_is_beaten_by_more_than_the_spread_over_seeds() -> None:
    # variance within points 2 * 0.01^2, standard error of the lead sqrt(2 * 2 * 0.01^2 / 2) = 0.0141
    assert _with_lead(0.013, 1.0, spread=0.01) == "0.5"
    assert _with_lead(0.015, 1.0, spread=0.01) == "0.3"
    assert _with_lead(0.015, 2.0, spread=0.01) == "0.5"
    assert _with_lead(0.001, 0.0, spread=0.01) == "0.3", "no margin, no rule"


def test_validation_rows_count_in_the_uncertainty_of_the_lead() -> None:
    rng = np.random.default_rng(0)
    default = (rng.random(300) < 0.8).astype("<f4")
    better = np.where(rng.random(300) < 0.15, 1 - default, default).astype("<f4")  # differs on 15 % of the rows
    units = (base64.b64encode(better.tobytes()).decode(), base64.b64encode(default.tobytes()).decode())
    error = float((better - default).std(ddof=1)) / 300**0.5
    assert 0.015 < error < 0.03
    assert _with_lead(0.9 * error, 1.0, units=units) == "0.5"
    assert _with_lead(1.1 * error, 1.0, units=units) == "0.3"


def test_where_smaller_is_better_the_default_stays_in_the_same_way() -> None:
    rule = Rule(points=1, select_seeds=2, confirm_seeds=2, margin=1.0, objective=Objective("val/mae"))
    seeds = rule.seeds("select")
    for lead, x in ((0.005, 0.5), (0.05, 0.6)):
        records = [trial("search", 0, 0.5, 0.8, default=True), trial("search", 1, 0.6, 0.7)]
        for point, value in ((0.6, 0.8 - lead), (0.5, 0.8)):
            for seed, noise in zip(seeds, (0.01, -0.01), strict=True):
                key = point_key({"x": point})
                records.append(trial("select", len(records), point, value + noise, seed, point=key))
        best = winner(records, rule)
        assert best is not None
        assert best.params["x"] == x


def test_a_default_that_failed_on_a_selection_seed_does_not_stay() -> None:
    rule = Rule(points=1, select_seeds=2, confirm_seeds=2, margin=5.0)
    first, second = rule.seeds("select")
    records = search()
    records += [
        trial("select", 10 + i, 0.3, 0.80, s, point=point_key({"x": 0.3})) for i, s in enumerate((first, second))
    ]
    records.append(trial("select", 20, 0.5, 0.95, first, point=point_key({"x": 0.5})))
    records.append(trial("select", 21, 0.5, None, second, state="failed", point=point_key({"x": 0.5})))
    best = winner(records, rule)
    assert best is not None
    assert best.params["x"] == 0.3
