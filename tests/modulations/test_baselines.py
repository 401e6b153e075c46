"""The baselines that sceptics ask for: an ensemble of unimodal models, and pretrained encoders, tuned or frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.ensemble import mixing_weights
from balance_tune.modulations.teacher import Teacher
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.parity.replay import OPTIMIZERS, Replay, compare


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("modalities", [2, 3])
def test_an_ensemble_is_models_that_are_trained_one_by_one(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, torch.Tensor], y: torch.Tensor) -> None:
        heads: Any = r.model.fusion
        r.optimizer.zero_grad()
        for m, h in r.features(x).items():
            F.cross_entropy(heads.heads[m](h), y).backward()
        r.optimizer.step()

    compare("ensemble", step, optimizer=optimizer, modalities=modalities)


def test_answers_are_mixed_as_asked() -> None:
    assert mixing_weights(2, 3.0) == pytest.approx([0.75, 0.25])
    assert mixing_weights(3, 4.0) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    for average in ("logits", "probabilities"):
        run, _ = tiny_run("ensemble", {"ratio": 3.0, "average": average})
        model, part = run.context.model, run.context.parts["train"]
        f = list(model.fusion.unimodal_logits(model.encode(part.inputs)).values())
        if average == "logits":
            assert torch.allclose(model(part.inputs), 0.75 * f[0] + 0.25 * f[1])
        else:
            mixed = 0.75 * f[0].softmax(1) + 0.25 * f[1].softmax(1)
            assert torch.allclose(model(part.inputs).exp(), mixed)


def test_probabilities_are_of_classes() -> None:
    with pytest.raises(UserError, match="averages probabilities of classes"):
        tiny_run("ensemble", {"average": "probabilities"}, data=tiny_data(task="regression"))


def test_pretraining_is_charged_to_the_trial_and_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    joint, method = tiny_run("joint", epochs=2)
    first = next(iter(train(joint, method)))["device_seconds"]
    run, method = tiny_run("pretrained", {"share": 30.0}, epochs=2)
    before = {n: p.clone() for n, p in run.context.model.encoders.named_parameters()}
    taught, teacher = [], run.context.teacher

    def noted(modality: str, epochs: int) -> Teacher:
        taught.append((run.context.epoch, modality, epochs))
        return teacher(modality, epochs)

    monkeypatch.setattr(run.context, "teacher", noted)
    history = list(train(run, method))
    assert taught == [(0, "audio", 60), (0, "image", 60)]
    assert history[0]["device_seconds"] > first
    assert all(not torch.equal(p, before[n]) for n, p in run.context.model.encoders.named_parameters())


def test_frozen_encoders_stay_as_their_pretraining_left_them() -> None:
    run, method = tiny_run("pretrained_frozen", epochs=3)
    epochs = train(run, method)
    next(epochs)
    after = {n: p.clone() for n, p in run.context.model.named_parameters()}
    list(epochs)
    for name, p in run.context.model.named_parameters():
        assert torch.equal(p, after[name]) == name.startswith("encoders."), name
