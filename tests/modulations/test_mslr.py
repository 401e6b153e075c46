"""MSLR against the official code's numbers and a slow reference, and what it promises."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.mslr import Mslr, initial_multipliers, learning_rate_ratios
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.checkpoint import load_state, save_state
from balance_tune.training.loop import train
from tests.golden import golden

OFFICIAL = golden("mslr")


def accuracies(*values: float) -> dict[str, torch.Tensor]:
    return {f"m{i}": torch.tensor(v, dtype=torch.float64) for i, v in enumerate(values)}


def test_a_run_of_multipliers_is_the_official_one() -> None:
    after = list(zip(OFFICIAL["val_acc_after_epoch_0"], OFFICIAL["val_acc_after_epoch_1"], strict=True))
    lr0 = OFFICIAL["init"]
    for row in OFFICIAL["per_epoch"]:
        history = [accuracies(*pair) for pair in after[: row["epoch"]]]
        r = learning_rate_ratios(history, OFFICIAL["keep_memory_epoch"]) if history else accuracies(1, 1)
        assert [v.item() for v in r.values()] == pytest.approx([row["ratio_0"], row["ratio_1"]], abs=1e-5)
        scales = [lr * v.item() for lr, v in zip(lr0, r.values(), strict=True)]
        assert scales == pytest.approx([row["scale_enc_0"], row["scale_enc_1"]], abs=1e-5)
        assert scales == pytest.approx(row["coeff_logged"], abs=1e-5)


def test_the_multipliers_reach_the_official_pairs_from_their_ratio() -> None:
    assert list(initial_multipliers(("a", "v"), 0.9 / 1.1).values()) == pytest.approx(OFFICIAL["init"])
    assert list(initial_multipliers(("a", "v"), 0.7 / 1.3).values()) == pytest.approx([0.7, 1.3])
    three = list(initial_multipliers(("a", "b", "c"), 4.0).values())
    assert three[0] / three[2] == pytest.approx(4.0)
    assert three[0] / three[1] == pytest.approx(three[1] / three[2])
    assert sum(three) / 3 == pytest.approx(1.0)


@pytest.mark.parametrize("modalities", [2, 3])
def test_five_epochs_equal_the_slow_reference(modalities: int) -> None:
    run, method = tiny_run(
        "mslr", {"ratio": 0.5, "memory": 2}, modalities=modalities, epochs=6, batch_size=22, weight_decay=0.0
    )
    model, part, monitor = copy.deepcopy(run.context.model), *map(run.context.parts.get, ("train", "monitor"))
    velocity = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    lr0 = initial_multipliers(model.modalities, 0.5)
    past: dict[str, list[float]] = {m: [] for m in model.modalities}
    expected = []
    for epoch in range(6):
        factor = dict(lr0)
        for m in model.modalities:
            if epoch > 0:
                alone = model.fusion.unimodal_logits(model.encode(monitor.inputs))[m]
                hits = [int(row.argmax()) == y for row, y in zip(alone, monitor.labels.tolist(), strict=True)]
                accuracy = sum(hits) / len(hits)
                if epoch > 2:
                    factor[m] *= accuracy / (sum(past[m][-2:]) / 2) if sum(past[m][-2:]) else 1.0
                past[m].append(accuracy)
        model.zero_grad()
        F.cross_entropy(model(part.inputs), part.labels).backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                velocity[name] = 0.9 * velocity[name] + p.grad
                own = factor[name.split(".")[1]] if name.startswith("encoders") else 1.0
                p -= 0.1 * own * velocity[name]
        expected.append(factor)
    history = list(train(run, method))
    for metrics, factor in zip(history, expected, strict=True):
        assert {m: metrics[f"modulation/lr/{m}"] for m in factor} == pytest.approx(factor)
    for name, p in run.context.model.named_parameters():
        assert torch.allclose(p, model.get_parameter(name), rtol=1e-9, atol=1e-11), name
    assert any(abs(expected[-1][m] - lr0[m]) > 1e-3 for m in lr0), "the data must let an accuracy move"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_scales_the_update_whatever_the_optimiser(optimizer: str) -> None:
    settings = {"optimizer": optimizer, "epochs": 1, "batch_size": 22}
    joint, run = tiny_run("joint", **settings), tiny_run("mslr", {"ratio": 3.0}, **settings)
    before = {n: p.detach().clone() for n, p in run[0].context.model.named_parameters()}
    list(train(*joint))
    list(train(*run))
    for name, p in run[0].context.model.named_parameters():
        factor = {"audio": 1.5, "image": 0.5}[name.split(".")[1]] if name.startswith("encoders") else 1.0
        plain = joint[0].context.model.get_parameter(name) - before[name]
        assert torch.allclose(p - before[name], factor * plain, rtol=1e-9, atol=1e-12), name


def test_an_accuracy_of_zero_divides_nothing_by_zero() -> None:
    r = learning_rate_ratios([accuracies(0, 0.5)] * 2 + [accuracies(0.3, 0.0)], 2)
    assert [v.item() for v in r.values()] == [1.0, 0.0]


def test_a_resumed_run_remembers_the_accuracies(tmp_path: Path) -> None:
    settings = {"ratio": 0.5, "memory": 2}
    run, method = tiny_run("mslr", settings, epochs=6)
    whole = list(train(run, method))
    run, method = tiny_run("mslr", settings, epochs=6)
    epochs = train(run, method)
    for _ in range(4):
        next(epochs)
    save_state(run, method, tmp_path)
    run, method = tiny_run("mslr", settings, epochs=6)
    load_state(run, method, tmp_path)
    resumed = list(train(run, method))
    for one, two in zip(whole[4:], resumed, strict=True):
        assert one["modulation/lr/audio"] == two["modulation/lr/audio"]
        assert one["train/loss"] == two["train/loss"]


def test_it_is_judged_once_its_ratios_move() -> None:
    assert Mslr(memory=5).min_epochs(20) == 7
    assert Mslr(memory=20).min_epochs(20) == 0  # only its constant multipliers act


def test_multipliers_of_one_in_a_run_shorter_than_the_memory_never_act() -> None:
    reason = Mslr(ratio=1.0, memory=10).never_acts(10)
    assert reason is not None
    assert "memory of 10" in reason
    assert Mslr(ratio=1.0, memory=8).never_acts(10) is None
    assert Mslr(ratio=0.9, memory=10).never_acts(10) is None


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"memory": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Mslr(**settings)
