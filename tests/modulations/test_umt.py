"""UMT against a slow reference, and what it promises (there are no official numbers)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.teacher import Teacher
from balance_tune.modulations.umt import Umt
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.checkpoint import load_state, save_state
from balance_tune.training.context import RunContext
from balance_tune.training.loop import train

PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_three_steps_equal_the_slow_reference(modalities: int) -> None:
    """Teachers included: one batch an epoch holds every row, so that the order of rows does not matter."""
    settings = {"scaling": 2.0, "teacher_epochs": 0.67}
    run, method = tiny_run("umt", settings, modalities=modalities, **PLAIN_SGD)
    model, part = copy.deepcopy(run.context.model), run.context.parts["train"]
    list(train(run, method))
    teachers = run.context.modules
    for _ in range(3):
        model.zero_grad()
        features = model.encode(part.inputs)
        loss = F.cross_entropy(model.fusion(features), part.labels)
        for m, h in features.items():
            target, total = teachers[m](part.inputs[m]).detach(), torch.zeros((), dtype=torch.float64)
            for i in range(len(h)):
                for j in range(h.shape[1]):
                    total = total + (h[i, j] - target[i, j]) ** 2
            loss = loss + 2.0 * total / h.numel()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
    for name, p in run.context.model.named_parameters():
        assert torch.allclose(p, model.get_parameter(name), rtol=1e-8, atol=1e-10), name


def test_each_modality_has_a_frozen_teacher_of_its_own_taught_for_as_long_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, method = tiny_run("umt", {"scaling": 1.0, "teacher_epochs": 2.0}, **PLAIN_SGD)
    asked: list[tuple[str, int]] = []
    made = RunContext.teacher

    def noted(ctx: RunContext, modality: str, epochs: int) -> Teacher:
        asked.append((modality, epochs))
        return made(ctx, modality, epochs)

    monkeypatch.setattr(RunContext, "teacher", noted)
    untaught = copy.deepcopy(run.context.modules.state_dict())
    list(train(run, method))
    assert asked == [("audio", 6), ("image", 6)]
    for name, p in run.context.modules.named_parameters():
        assert not p.requires_grad
        assert not torch.equal(p, untaught[name])


def test_at_the_beginning_a_teacher_has_the_encoders_own_weights() -> None:
    run, _ = tiny_run("umt")
    for m, teacher in run.context.modules.items():
        for name, p in teacher.named_parameters():
            assert torch.equal(p, run.context.model.encoders[m].get_parameter(name))


def test_features_come_nearer_to_the_teachers() -> None:
    run, method = tiny_run("umt", {"scaling": 1.0}, epochs=6, lr=0.03)
    history = list(train(run, method))
    assert history[-1]["modulation/distance/audio"] < history[0]["modulation/distance/audio"]


def test_a_resumed_run_does_not_teach_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, method = tiny_run("umt", {"scaling": 1.0})
    next(train(run, method))
    save_state(run, method, tmp_path)
    taught = copy.deepcopy(run.context.modules.state_dict())
    run, method = tiny_run("umt", {"scaling": 1.0})
    assert load_state(run, method, tmp_path) == 1
    monkeypatch.setattr(RunContext, "teacher", None)
    list(train(run, method))
    for name, value in run.context.modules.state_dict().items():
        assert torch.equal(value, taught[name])


@pytest.mark.parametrize("settings", [{"scaling": -1.0}, {"teacher_epochs": 0.0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Umt(**settings)
