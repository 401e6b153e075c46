"""The loop yields one metrics dict an epoch, is deterministic, and stops when it is told to."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.settings import TrainingSettings
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.errors import Diverged, Stopped
from balance_tune.training.loop import train


def test_every_epoch_reports_loss_accuracies_gap_and_time() -> None:
    run, modulation = tiny_run("mlb", modalities=3)
    rows = list(train(run, modulation))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        accuracies = [row[f"val/accuracy/{m}"] for m in ("audio", "image", "motion")]
        assert row["val/gap"] == pytest.approx(max(accuracies) - min(accuracies))
        assert {"train/loss", "val/loss", "val/macro_f1", "modulation/k/motion", "time/epoch_s"} <= set(row)
    assert rows[-1]["device_seconds"] >= sum(row["time/epoch_s"] for row in rows) * 0.99


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    weights = []
    for seed in (0, 0, 1):
        run, modulation = tiny_run("opm_ogm", {"start": 0.0}, seed=seed)
        list(train(run, modulation))
        weights.append(torch.cat([p.detach().flatten() for p in run.context.parameters]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_leaves_the_callers_random_state_alone_while_building_models() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    tiny_run("mlb")
    assert torch.equal(torch.rand(1), expected)


def test_the_best_epoch_by_validation_is_kept_not_the_last() -> None:
    run, modulation = tiny_run("joint", epochs=5)
    rows = list(train(run, modulation))
    assert run.best.value == max(row["val/accuracy"] for row in rows)
    first = next(row["epoch"] for row in rows if row["val/accuracy"] == run.best.value)
    assert run.best.metrics["epoch"] == first


def test_a_loss_that_is_not_finite_raises_diverged_with_the_epoch() -> None:
    run, modulation = tiny_run("joint", lr=1e200)
    with pytest.raises(Diverged, match=r"loss is (nan|inf) in epoch 1"):
        list(train(run, modulation))


def test_a_stop_flag_is_looked_at_in_every_step() -> None:
    run, modulation = tiny_run("joint")
    asked = iter([False, False, True])
    run.stop = lambda: next(asked)
    with pytest.raises(Stopped):
        list(train(run, modulation))
    assert run.context.step == 2


def test_outside_its_window_no_hook_of_a_method_runs_but_observe(monkeypatch: pytest.MonkeyPatch) -> None:
    run, modulation = tiny_run("ogm", {"start": 0.5, "end": 1.0}, epochs=4)
    calls: list[tuple[str, int]] = []
    for name in ("plan_epoch", "on_epoch_start", "on_gradients", "observe", "on_epoch_end"):
        hook = getattr(modulation, name)

        def noted(*args: Any, name: str = name, hook: Any = hook, **kwargs: Any) -> Any:
            calls.append((name, run.context.epoch))
            return hook(*args, **kwargs)

        monkeypatch.setattr(modulation, name, noted)
    list(train(run, modulation))
    epochs = {name: sorted({epoch for called, epoch in calls if called == name}) for name, _ in calls}
    inside = [2, 3]
    assert epochs.pop("observe") == [0, 1, 2, 3]
    assert epochs == dict.fromkeys(("plan_epoch", "on_epoch_start", "on_gradients", "on_epoch_end"), inside)


def test_schedules_follow_their_formula() -> None:
    settings = TrainingSettings(epochs=10, lr=0.1)
    assert settings.rate(0) == pytest.approx(0.1)
    assert settings.rate(5) == pytest.approx(0.05)
    step = dataclasses.replace(settings, schedule="step")
    assert [round(step.rate(e), 6) for e in (0, 6, 7)] == [0.1, 0.1, 0.01]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"lr": "fast"}, "training.lr must be a number"),
        ({"epochs": 2.5}, "training.epochs must be a whole number"),
        ({"optimizer": "lion"}, "training.optimizer must be one of"),
        ({"lr": math.nan}, "training.lr must be a number"),
        ({"epochs": 0}, r"training\.epochs >= 1"),
        ({"learning_rate": 0.1}, "a setting of training must be one that exists"),
    ],
)
def test_bad_settings_are_refused_with_their_rule(values: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        TrainingSettings.of(values)
