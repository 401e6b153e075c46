"""PMR against the official code's numbers and a slow reference, and what it promises."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.pmr import Pmr, pmr_weights, similarities
from balance_tune.modulations.scores import score_sums
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.golden import golden
from tests.modulations.one_step import run_on, update

OFFICIAL = golden("pmr")
PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


def tensors(case: dict[str, Any], name: str) -> dict[str, Tensor]:
    return {m: torch.tensor(case[f"{name}_{m}"]).double() for m in ("a", "v")}


def total_loss(
    features: dict[str, Tensor], prototypes: dict[str, Tensor], logits: Tensor, labels: Tensor, alpha: float
) -> tuple[dict[str, Tensor], Tensor]:
    sim = {m: similarities(h, prototypes[m]) for m, h in features.items()}
    scores = dict(zip(sim, score_sums(sim, labels), strict=True))
    weights = pmr_weights(scores, alpha)
    loss = F.cross_entropy(logits, labels)
    return scores, loss + sum(weights[m] * F.cross_entropy(sim[m], labels) for m in sim)


@pytest.mark.parametrize("case", OFFICIAL["mlb_cases"])
def test_similarities_ratio_and_loss_are_those_of_the_code_with_batch_norm(case: dict[str, Any]) -> None:
    """There features pass BatchNorm first; given normalised features the rest is the same."""
    features = {m: F.batch_norm(h, None, None, training=True) for m, h in tensors(case, "feat").items()}
    prototypes, labels = tensors(case, "proto"), torch.tensor(case["labels"])
    for m in ("a", "v"):
        sim = similarities(features[m], prototypes[m])
        assert torch.allclose(sim, torch.tensor(case[f"sim_{m}"]).double(), atol=1e-5)
    logits = torch.tensor(case["logits"]).double()
    scores, loss = total_loss(features, prototypes, logits, labels, case["alpha"])
    assert (scores["a"] / (scores["v"] + 1e-5)).item() == pytest.approx(case["ratio_a"], abs=1e-5)
    weights = pmr_weights(scores, case["alpha"])
    assert [w.item() for w in weights.values()] == pytest.approx([case["beta_audio"], case["lam_visual"]])
    assert loss.item() == pytest.approx(case["total_loss"], abs=1e-5)


@pytest.mark.parametrize("case", OFFICIAL["pmr_official_cases"])
def test_ratio_weights_and_loss_are_the_official_ones(case: dict[str, Any]) -> None:
    given = OFFICIAL["mlb_cases"][0]
    features, prototypes = tensors(given, "feat"), tensors(given, "proto")
    labels, logits = torch.tensor(given["labels"]), torch.tensor(given["logits"]).double()
    scores, loss = total_loss(features, prototypes, logits, labels, case["alpha"])
    assert (scores["a"] / scores["v"]).item() == pytest.approx(case["ratio_a"], abs=1e-5)
    for m in ("a", "v"):
        own = F.cross_entropy(similarities(features[m], prototypes[m]), labels)
        assert own.item() == pytest.approx(case[f"loss_proto_{m}"], abs=1e-5)
    weights = pmr_weights(scores, case["alpha"])
    assert [w.item() for w in weights.values()] == pytest.approx([case["beta"], case["lam"]])
    assert loss.item() == pytest.approx(case["total"], abs=1e-5)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_three_epochs_equal_the_slow_reference(modalities: int) -> None:
    """The one batch of an epoch is the whole part, so that later prototypes are of all rows too."""
    run, method = tiny_run("pmr", {"alpha": 0.7, "mu": 0.4, "end": 1.0}, modalities=modalities, **PLAIN_SGD)
    model, part = copy.deepcopy(run.context.model), run.context.parts["train"]
    prototypes: dict[str, list[Tensor]] = {}
    expected = []
    for epoch in range(3):
        model.zero_grad()
        features = model.encode(part.inputs)
        for m, h in features.items():
            means = []
            for k in range(3):
                rows = [h[i].detach() for i, y in enumerate(part.labels.tolist()) if y == k]
                mean = sum(rows) / len(rows)
                means.append(mean if epoch == 0 else 0.6 * mean + 0.4 * prototypes[m][k])
            prototypes[m] = means
        own, score = {}, {}
        for m, h in features.items():
            losses = []
            for i, y in enumerate(part.labels.tolist()):
                sim = torch.stack([-((h[i] - c) ** 2).sum().sqrt() for c in prototypes[m]])
                losses.append(-sim.log_softmax(0)[y])
            own[m] = sum(losses) / len(losses)
            score[m] = sum(math.exp(-loss.item()) for loss in losses)
        behind = [m for m in score if score[m] < max(score.values())]
        loss = F.cross_entropy(model(part.inputs), part.labels) + 0.7 * sum(own[m] for m in behind)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
        expected.append({m: 0.7 if m in behind else 0.0 for m in score})
    for metrics, weights in zip(train(run, method), expected, strict=True):
        assert {m: metrics[f"modulation/weight/{m}"] for m in weights} == pytest.approx(weights)
    for name, p in run.context.model.named_parameters():
        assert torch.allclose(p, model.get_parameter(name), rtol=1e-9, atol=1e-11), name


def test_only_the_modality_behind_is_pulled_and_nobody_at_a_tie() -> None:
    score = {"a": torch.tensor(3.0), "b": torch.tensor(2.0)}
    assert {m: w.item() for m, w in pmr_weights(score, 1.5).items()} == {"a": 0.0, "b": 1.5}
    assert all(w == 0 for w in pmr_weights({"a": torch.tensor(3.0), "b": torch.tensor(3.0)}, 1.5).values())
    three = pmr_weights({"a": torch.tensor(3.0), "b": torch.tensor(2.0), "c": torch.tensor(1.0)}, 1.5)
    assert [w.item() for w in three.values()] == [0.0, 1.5, 1.5]


def test_later_prototypes_come_from_a_tenth_of_the_batches_and_an_absent_class_keeps_its_own() -> None:
    run, method = tiny_run("pmr", {"mu": 0.0}, data=tiny_data(classes=3, train=22), batch_size=2)
    update(run)
    before = copy.deepcopy(method.state_dict()["prototypes"])
    ctx = run.context
    ctx.epoch = 1
    present = set(ctx.parts["train"].labels[ctx.plan().order[:2]].tolist())  # 11 batches, so one of two rows
    method.on_epoch_start(ctx)
    after = method.state_dict()["prototypes"]
    assert len(present) < 3
    for m in ("audio", "image"):
        assert {k for k in range(3) if not torch.equal(before[m][k], after[m][k])} == present
        assert torch.isfinite(after[m]).all()


def test_a_feature_on_its_prototype_has_a_finite_gradient() -> None:
    labels = torch.tensor([0, 1, 2])  # one sample per class: every feature is its prototype
    run = run_on({"a": torch.randn(3, 4), "v": torch.randn(3, 4)}, labels, classes=3, method="pmr")
    assert all(torch.isfinite(change).all() for change in update(run).values())


def test_prototypes_are_of_evaluation_mode_and_the_model_trains_on() -> None:
    run, method = tiny_run("pmr")
    modes: list[bool] = []
    run.context.model.encoders["audio"].register_forward_hook(lambda module, *_: modes.append(module.training))
    run.context.model.train()
    method.on_epoch_start(run.context)
    assert modes == [False] * 3
    assert run.context.model.training


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"mu": 1.5}, {"share": -0.1}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Pmr(**settings)
