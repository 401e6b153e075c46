"""The benchmark of true regret: searches replayed on recordings of several seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest

from benchmarks.recorded import CURVES, RECORDINGS, Floats, Recording
from benchmarks.regret import (
    BASELINE,
    OURS,
    SEARCHES,
    Hyperband,
    Outcome,
    Replay,
    epochs_to,
    goal,
    outcomes,
    ratio,
    regrets,
    sources_table,
    tasks,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def mlb() -> Recording:
    return Recording(RECORDINGS / "multiple_features-mlb.npz")


def test_the_tasks_have_one_to_eight_parameters_on_two_datasets_and_are_small() -> None:
    recordings = tasks()
    assert len(recordings) >= 6
    assert len({r.arm.dataset for r in recordings}) == 2
    assert {1, 2, 3, 4, 5, 8} == {len(r.arm.space.parameters) for r in recordings}
    assert sum(path.stat().st_size for path in CURVES.iterdir()) < 300_000
    for r in recordings:
        assert r.params(r.default) == pytest.approx(r.arm.space.defaults())
        assert all(r.arm.space.contains(r.params(i)) for i in range(len(r.truth)))
        best = np.argsort(-r.truth)[: len(r.truth) // 5]
        assert min(len(r.seeds[i]) for i in best) >= 5
        with np.load(CURVES / f"{r.arm.dataset}-{r.arm.label}-{len(r.arm.space.parameters)}.npz") as stored:
            further = np.isfinite(stored["truth"]).sum(1)
        assert min(further[[*best, r.default]]) >= 20, "the truth of good points is a mean over seeds of its own"


def test_a_recorded_point_is_its_own_nearest_and_a_used_one_is_not_given_again(mlb: Recording) -> None:
    point = mlb.params(7)
    assert mlb.nearest(point, set()) == 7
    assert mlb.nearest(point, {7}) != 7


def test_the_truth_is_the_mean_over_seeds_and_broken_trainings_count_nothing(mlb: Recording) -> None:
    broken = np.isnan(mlb.val).any(-1)
    assert broken.any()
    whole = int(np.flatnonzero(~broken.any(1))[0])
    assert mlb.truth[whole] == pytest.approx(mlb.val[whole].max(-1).mean())
    worst = int(broken.sum(1).argmax())
    assert mlb.truth[worst] < mlb.truth[whole]


def recorded(path: Path, curves: Floats, truth: Floats | None = None) -> Recording:
    """Return a recording of points with curves (points, seeds) of one epoch and scores (points, further seeds)."""
    points = json.dumps([{"training.lr": 0.01 * (i + 1)} for i in range(len(curves))])
    further = {} if truth is None else {"truth": truth}
    np.savez(path / "toy-joint-1.npz", points=np.array(points), val=curves[..., None], **further)
    return Recording(path / "toy-joint-1.npz")


def test_the_truth_comes_from_seeds_that_no_search_sees(tmp_path: Path) -> None:
    truth = np.array([[0.5, 0.6, 0.7, 0.6], [0.8, 0.9, 1.0, 0.9], [np.nan] * 4])
    recording = recorded(tmp_path, np.array([[0.9, 0.9], [0.1, 0.1], [0.3, 0.4]]), truth)
    better, worse, without = recording.truth[[1, 0, 2]]
    assert better - worse == pytest.approx(0.3)
    # the two seeds with curves are worth 0.25 less than the others, in the mean of the points that have all
    assert worse - without == pytest.approx(0.6 - (0.35 + 0.25))


def test_the_best_point_gains_nothing_from_luck(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0.7, 0.05, size=(40, 22))  # all points are equally good
    fresh, seen = recorded(tmp_path, noise[:, :2], noise[:, 2:]), recorded(tmp_path, noise)
    for recording in (fresh, seen):
        assert recording.best == pytest.approx(0.7, abs=0.01)
        assert recording.truth.max() > 0.715


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_reproducible_and_spends_what_its_trials_train(mlb: Recording, name: str, tmp_path: Path) -> None:
    replay = Replay(mlb, SEARCHES[name], 8, 3, tmp_path)
    outcome = replay.run()
    searched = [r for r in replay.records if r.phase == "search"]
    assert outcome.spent == sum(len(r.curve) or 1 for r in searched)
    assert len({tuple(r.params.items()) for r in searched}) == 8
    assert searched[0].params == mlb.arm.space.defaults()
    assert outcome == outcomes(mlb, SEARCHES[name], 8, [3])[0]


def test_without_early_stopping_every_trial_is_whole(mlb: Recording) -> None:
    full, stopped = (outcomes(mlb, SEARCHES[name], 8, range(3)) for name in ("random", "random + ASHA"))
    assert all(len(o.reached) >= 7 and o.spent >= 140 for o in full)
    assert all(o.spent < 140 for o in stopped)


def test_the_gaussian_process_ends_nearer_to_the_best_point_than_tpe(mlb: Recording) -> None:
    ours, tpe = (
        regrets(mlb, [o.chosen for o in outcomes(mlb, SEARCHES[n], 12, range(16))]).mean() for n in (OURS, BASELINE)
    )
    assert ours < 0.9 * tpe


def test_regret_is_measured_from_the_best_point(mlb: Recording) -> None:
    assert mlb.truth[mlb.default] < mlb.best < mlb.truth.max()
    assert regrets(mlb, [3, mlb.default]) == pytest.approx(100 * (mlb.best - mlb.truth[[3, mlb.default]]))


def test_a_goal_is_reached_when_a_point_as_good_was_trained_to_its_end(mlb: Recording) -> None:
    target = goal(mlb)
    assert mlb.truth.mean() < target < mlb.truth.max()
    good, bad = int(mlb.truth.argmax()), int(mlb.truth.argmin())
    assert epochs_to(mlb, target, Outcome(0, 0, 60, [(20, bad), (60, good)], [bad, good], [good])) == 60
    assert epochs_to(mlb, target, Outcome(0, 0, 20, [(20, bad)], [bad], [bad])) == math.inf


def test_the_interval_of_a_ratio_holds_it_and_pairs_the_seeds() -> None:
    rng = np.random.default_rng(0)
    theirs = [rng.random(40) + 0.2 for _ in range(3)]
    mean, low, high = ratio([0.5 * task for task in theirs], theirs)
    assert (mean, low, high) == pytest.approx((0.5, 0.5, 0.5))
    mean, low, high = ratio([rng.random(40) + 0.2 for _ in range(3)], theirs)
    assert low < mean < high


def test_brackets_of_hyperband_begin_one_rung_later_each() -> None:
    rule = Hyperband(20, grace=1, reduction=3)
    assert list(rule.rung_epochs()) == [1, 3, 9]
    for number in range(6):
        rule.report(number, 1, 1.0 - 0.1 * number)
    stopped = [number for number in range(6, 12) if (d := rule.report(number, 1, 0.0)) is not None and d.stop]
    assert stopped == [6, 9], "every third trial is judged at the first rung"


def test_what_is_recorded_is_what_a_study_would_train() -> None:
    from balance_tune.studies.loading import load_config
    from balance_tune.studies.protocol.arms import arms_of
    from benchmarks.record_curves import EPOCHS, record

    raw = {"name": "curves", "datasets": ["multiple_features"], "methods": ["joint"], "training": {"epochs": EPOCHS}}
    config = load_config({**raw, "search": {"trials": 2, "sampler": "random"}})
    points, val, truth = record(config, arms_of(config)[0], 2, 1, 1, 1)
    known = Recording(CURVES / "multiple_features-joint-1.npz")
    assert np.allclose(val[:, 0], known.val[:2, 0], atol=0.02), "another build of torch may round differently"
    assert known.params(1) == points[1]
    assert 0.5 < truth[0, 0] <= 1, "the default has further seeds"
    assert np.isnan(truth[1, 0]), "the better third of two points is none"


def test_the_regret_of_each_step_is_that_of_its_best_point(mlb: Recording) -> None:
    order = np.argsort(mlb.truth)[::-1].tolist()
    best, second, third, fourth = order[:4]
    outcome = Outcome(fourth, mlb.default, 60, [(20, second), (60, fourth)], [best, second, fourth], [third, fourth])
    (row,) = sources_table([mlb], {("gp", 12): [[outcome]]}).rows
    expected = [100 * (mlb.best - mlb.truth[i]) for i in (best, second, third, fourth, mlb.default)]
    assert row == ["12", "gp", *(f"{value:.3f}" for value in expected)]
