"""The runs of an arm: scores, failures, and what each test unit contributes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from balance_tune.studies.results.arm_results import ArmResults, CellResults
from balance_tune.studies.results.inference import estimate
from balance_tune.tasks import Objective


def _test(correct: list[int], groups: list[int] | None = None, **more: Any) -> dict[str, Any]:
    packed = base64.b64encode(np.packbits(np.array(correct, dtype=bool)).tobytes()).decode()
    return {"accuracy": float(np.mean(correct)), "correct": packed, "n": len(correct), "groups": groups, **more}


def _arm(tests: dict[int, dict[str, Any]], failed: set[int] = frozenset(), metric: str = "accuracy") -> ArmResults:
    seeds = sorted({*tests, *failed})
    cell = CellResults([], tests=tests, failed=frozenset(failed), seeds=seeds)
    return ArmResults("sealed", "toy", "mlb", [cell], metric=Objective(metric))


def test_failed_seeds_are_gaps_and_rows_are_units() -> None:
    runs = _arm({1: _test([1, 0, 1, 1]), 3: _test([0, 0, 1, 1])}, failed={2}).runs([0, 1, 2])
    assert runs.scores[[0, 2]].tolist() == [0.75, 0.5]
    assert runs.failed.tolist() == [False, True, False]
    assert runs.units is not None
    assert runs.units[0].tolist() == [1, 0, 1, 1]


def test_groups_are_units_weighted_by_their_size() -> None:
    test = _test([1, 1, 1, 0, 1], groups=[4, 4, 4, 9, 9])
    runs = _arm({1: test}).runs([0])
    assert runs.units is not None
    whole, without_4, without_9 = 0.8, 0.5, 1.0
    assert runs.units[0] == pytest.approx([2 * whole - without_4, 2 * whole - without_9])


def test_a_single_group_says_nothing_of_others() -> None:
    assert _arm({1: _test([1, 0], groups=[5, 5])}).runs([0]).units is None


def test_other_metrics_have_the_units_that_the_evaluation_stored() -> None:
    stored = base64.b64encode(np.array([0.5, 1.0], dtype="<f4").tobytes()).decode()
    runs = _arm({1: _test([1, 0], macro_f1=0.75, units={"macro_f1": stored})}, metric="macro_f1").runs([0])
    assert runs.units is not None
    assert runs.units.tolist() == [[0.5, 1.0]]
    assert _arm({1: _test([1, 0], macro_f1=0.75)}, metric="macro_f1").runs([0]).units is None


def test_units_that_some_runs_lack_are_left_out() -> None:
    stored = base64.b64encode(np.array([0.5, 1.0], dtype="<f4").tobytes()).decode()
    tests = {1: _test([1, 0], macro_f1=0.75, units={"macro_f1": stored}), 2: _test([1, 0], macro_f1=0.7)}
    assert _arm(tests, metric="macro_f1").runs([0, 1]).units is None


def test_a_seed_has_ended_when_it_was_evaluated_or_failed() -> None:
    assert _arm({1: _test([1, 0])}, failed={2}).finished_keys() == {0, 1}


def test_the_interval_covers_the_difference_on_the_population_of_people_with_as_few_as_five() -> None:
    rng = np.random.default_rng(0)
    inside, draws, seeds = 0, 400, range(6)
    for _ in range(draws):
        people = np.repeat(np.arange(5), rng.integers(10, 40, 5))
        skill = np.clip(0.7 + rng.normal(0, 0.1, 5), 0, 1)[people]
        tests = {s: _test((rng.random(len(people)) < skill).astype(int).tolist(), people.tolist()) for s in seeds}
        runs = _arm(tests).runs(list(seeds))
        ci = estimate(runs.scores, runs.units).ci
        assert ci is not None
        inside += ci[0] <= 0.7 <= ci[1]
    assert 0.92 <= inside / draws <= 0.98


def _cell(replicate: int, *scores: float, failed: int = 0, failure: str | None = None) -> CellResults:
    tests = {seed: _test([1] * round(10 * score) + [0] * (10 - round(10 * score))) for seed, score in enumerate(scores)}
    seeds = list(range(len(scores) + failed))
    return CellResults(
        [], tests=tests, failed=frozenset(seeds[len(scores):]), seeds=seeds, failure=failure, replicate=replicate
    )  # fmt: skip


def test_of_several_replicates_a_run_is_the_mean_over_its_seeds() -> None:
    arm = ArmResults("sealed", "toy", "mlb", [_cell(0, 0.5, 0.7), _cell(1, 0.9, 0.9)], 3)
    runs = arm.runs(arm.run_keys())
    assert arm.run_keys() == [0, 1, 2]
    assert runs.scores[:2] == pytest.approx([0.6, 0.9])
    assert np.isnan(runs.scores[2])
    assert runs.units is not None
    assert runs.units[0] == pytest.approx([1] * 5 + [0.5] * 2 + [0] * 3)
    assert arm.finished_keys() == {0, 1}


def test_a_replicate_with_a_failed_seed_or_without_any_result_counts_as_failed() -> None:
    broken = _cell(1, 0.9, failed=1)
    dead = _cell(2, failure="5 search trials failed")
    arm = ArmResults("sealed", "toy", "mlb", [_cell(0, 0.5, 0.7), broken, dead], 3)
    assert arm.finished_keys() == {0, 1, 2}
    assert arm.runs(arm.run_keys()).failed.tolist() == [False, True, True]
    assert arm.scores() == {0: pytest.approx(0.6)}
