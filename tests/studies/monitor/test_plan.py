"""The plan: trials exactly, epochs as a bound, and what is expected of early stopping."""

from typing import Any

import numpy as np
import pytest

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.early_stopping.rules import Asha
from balance_tune.studies.monitor.plan import Plan, plan_of
from balance_tune.studies.protocol.arms import arms_of

RAW: dict[str, Any] = {
    "name": "p",
    "datasets": ["av_digits"],
    "methods": ["joint", "relearning"],
    "training": {"epochs": 20},
    "search": {"trials": 12, "early_stopping": {"reduction": 3, "grace": 3}},
    "select": {"points": 2, "seeds": 2},
    "confirm": {"seeds": 6, "default_seeds": 5},
}


def plan(*overrides: str, seconds: float | None = 0.1, machine: tuple[int, int] = (2, 0)) -> Plan:
    config = read_config(RAW, overrides)
    arms = arms_of(config)
    return plan_of(config, arms, {arm.name: seconds for arm in arms}, machine)


def test_trials_are_those_of_search_selection_and_confirmation() -> None:
    found = plan().trials
    assert (found["search"], found["select"]) == (24, 10)
    assert (found["confirm_least"], found["confirm"]) == (12, 22)
    assert (found["total_least"], found["total"]) == (46, 56)


def test_a_plan_for_gpus_that_are_elsewhere_says_whose_time_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_REACH", '{"CPU": 64, "GPU": 8}')
    monkeypatch.setattr("balance_tune.studies.monitor.plan.this_machine", lambda: (2, 0))
    config = read_config(RAW, ["resources.gpus_per_trial=2"])
    arms = arms_of(config)
    found = plan_of(config, arms, {arm.name: 0.1 for arm in arms})
    assert (found.slots, found.gpus) == (4, 8)
    assert "The time of an epoch is that of this machine's CPU, not of the GPUs that trials ask for." in found.notes


def test_a_search_of_few_trials_has_few_points_to_select_among() -> None:
    assert plan("search.trials=2").arms[0].select == 4
    single = plan("search.trials=1").arms[0]
    assert (single.select, single.confirm_least, single.confirm) == (2, 6, 6)


def test_each_arm_costs_what_its_own_epoch_takes() -> None:
    config = read_config(RAW)
    arms = arms_of(config)
    found = plan_of(config, arms, {"av_digits/joint": 1.0, "av_digits/relearning": 3.0}, (2, 0))
    joint, relearning = found.arms
    assert found.device_hours.most == pytest.approx(
        ((joint.epochs_most or 0) + 3 * (relearning.epochs_most or 0)) / 3600
    )
    assert plan_of(config, arms, {"av_digits/joint": 1.0}, (2, 0)).device_hours.most is None


def test_the_upper_bound_of_epochs_has_every_trial_run_to_its_end() -> None:
    found = plan()
    assert found.epochs.most == 56 * 20
    assert found.epochs.expected is not None
    assert 32 * 20 < found.epochs.expected < 56 * 20
    assert plan("search.early_stopping=none").epochs.expected == 56 * 20


def test_rungs_below_the_epoch_at_which_a_method_settles_do_not_exist() -> None:
    joint, relearning = plan().arms
    assert [rung.epoch for rung in joint.rungs] == [3, 9]
    assert all(rung.epoch >= (relearning.first_judged or 0) for rung in relearning.rungs)
    assert (relearning.first_judged or 0) > (joint.first_judged or 0)
    assert joint.rungs[1].judged == joint.rungs[0].survivors


@pytest.mark.parametrize(("trials", "reduction"), [(12, 3), (40, 4), (7, 2)])
def test_survivors_are_those_that_asha_lets_pass(trials: int, reduction: int) -> None:
    rng, passed, repeats = np.random.default_rng(0), 0, 400
    for _ in range(repeats):
        rule = Asha(2, grace=1, reduction=reduction)
        decisions = [rule.report(number, 1, float(rng.random())) for number in range(trials)]
        passed += sum(decision is not None and not decision.stop for decision in decisions)
    (rung,) = Asha(2, grace=1, reduction=reduction).expect(trials).rungs
    assert rung.survivors == pytest.approx(passed / repeats, rel=0.05, abs=0.05)


def test_a_rung_that_fewer_trials_reach_lets_fewer_pass() -> None:
    (first, second, third) = Asha(20, grace=1, reduction=3).expect(12).rungs
    assert 12 == first.judged > first.survivors == second.judged > second.survivors == third.judged > third.survivors


def test_an_arm_whose_every_rung_lies_below_min_epochs_is_never_pruned() -> None:
    joint, relearning = plan("search.early_stopping.grace=4", "search.early_stopping.reduction=5").arms
    assert joint.first_judged == 4
    assert relearning.first_judged is None


def test_time_and_money_follow_from_one_epoch() -> None:
    slow, fast = plan(seconds=2.0, machine=(1, 0)), plan(seconds=2.0, machine=(4, 0))
    assert (slow.slots, fast.slots) == (1, 4)
    assert slow.device_hours == fast.device_hours
    assert slow.wall_seconds.expected is not None
    assert fast.wall_seconds.expected is not None
    assert 3 < slow.wall_seconds.expected / fast.wall_seconds.expected < 4
    priced = plan("price_per_device_hour=2", seconds=3600.0)
    assert priced.price is not None
    assert priced.price.most == pytest.approx(2 * 56 * 20)


def test_without_a_measured_epoch_there_is_no_time() -> None:
    found = plan(seconds=None)
    assert found.wall_seconds.expected is None
    assert found.device_hours.most is None
    assert found.epochs.most == 56 * 20


def test_a_budget_in_device_seconds_has_no_number_of_trials() -> None:
    found = plan("search.trials=", "search.device_seconds=60")
    assert found.trials["search"] is None
    assert found.trials["total"] is None
    assert found.epochs.expected == 2 * (600 + 16 * 20)


def test_a_trial_that_does_not_fit_here_is_said_not_refused() -> None:
    found = plan("resources.cpus_per_trial=8")
    assert found.slots == 0
    assert any("must fit on the cluster" in note for note in found.notes)


def test_an_arm_without_parameters_has_only_its_default_to_confirm() -> None:
    joint = plan("training.lr=0.1").arms[0]
    assert (joint.searched, joint.select, joint.confirm) == ((), 2, 6)


def test_notes_name_the_baseline_and_what_is_never_stopped() -> None:
    notes = plan("search.early_stopping.grace=30").notes
    assert "joint" in notes[0]
    assert any("Never stopped early" in note for note in notes)
    assert any("Protocol paper" in note for note in plan("protocol=paper").notes)


def test_a_rule_of_the_users_says_itself_what_is_expected_of_it() -> None:
    arm = plan("search.early_stopping.kind=tests.studies.early_stopping.test_rules:Floor").arms[0]
    assert arm.epochs_expected == 12 * 4 + (arm.select + arm.confirm) * 20
    assert (arm.first_judged, arm.rungs) == (3, ())
