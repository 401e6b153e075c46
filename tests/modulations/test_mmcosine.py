"""MMCosine against the official code's numbers and a slow reference, and what it promises."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.mmcosine import CosineFusion, MmCosine, cosine_logits
from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import run_on, update

OFFICIAL = golden("mmcosine")
PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("case", OFFICIAL["cases"])
def test_logits_are_the_official_ones(case: dict[str, Any]) -> None:
    features = {m: torch.tensor(case[f"feat_{m}"]).double() for m in ("a", "v")}
    weight = {m: torch.tensor(case[f"W_{m}"]).double() for m in ("a", "v")}
    logits = cosine_logits(features, weight, case["scaling"])
    for m in ("a", "v"):
        assert torch.allclose(logits[m], torch.tensor(case[f"logits_{m}"]).double(), atol=1e-5)
    fused = CosineFusion(weight, 3, case["scaling"])(features)
    assert torch.allclose(fused, torch.tensor(case["logits"]).double(), atol=1e-5)


@pytest.mark.parametrize("case", OFFICIAL["cases"])
def test_a_step_has_the_official_loss_and_head_gradients(case: dict[str, Any]) -> None:
    features = {m: torch.tensor(case[f"feat_{m}"]).double() for m in ("a", "v")}
    settings = {"scale": float(case["scaling"])}
    run = run_on(features, torch.tensor(case["labels"]), classes=3, method="mmcosine", modulation=settings)
    with torch.no_grad():
        for m in features:
            run.context.model.fusion.weight[m].copy_(torch.tensor(case[f"W_{m}"]))
    fused = run.context.model.fusion(features)
    assert F.cross_entropy(fused, torch.tensor(case["labels"])).item() == pytest.approx(case["loss"], abs=1e-5)
    change = update(run)
    for m in features:
        grad = torch.tensor(case[f"grad_W_{m}"]).double()
        assert torch.allclose(-change[f"fusion.weight.{m}"], grad, atol=1e-5)


@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_a_step_equals_the_slow_reference(fusion: str, modalities: int) -> None:
    run, _ = tiny_run("mmcosine", {"scale": 3.0}, fusion=fusion, modalities=modalities, **PLAIN_SGD)
    model, part = copy.deepcopy(run.context.model), run.context.parts["train"]
    features = model.encode(part.inputs)
    losses = []
    for i, y in enumerate(part.labels.tolist()):
        logits = []
        for c in range(3):
            total = torch.zeros((), dtype=torch.float64)
            for m in model.modalities:
                h, w = features[m][i], model.fusion.weight[m][c]
                if not h.any():  # a dead feature has no angle
                    continue
                total = total + 3.0 * (h * w).sum() / ((h * h).sum().sqrt() * (w * w).sum().sqrt())
            logits.append(total)
        losses.append(-torch.stack(logits).log_softmax(0)[y])
    torch.stack(losses).mean().backward()
    change = update(run)
    for name, p in model.named_parameters():
        assert torch.allclose(change[name], -0.1 * p.grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_the_head_starts_from_the_weights_of_joint_training(fusion: str) -> None:
    joint, run = tiny_run("joint", fusion=fusion)[0], tiny_run("mmcosine", fusion=fusion)[0]
    for m, ((weight, columns),) in joint.context.model.fusion.slices().items():
        assert torch.equal(run.context.model.fusion.weight[m], weight[:, columns])


def test_the_size_of_a_feature_does_not_matter_and_a_zero_feature_answers_nothing() -> None:
    h, w = {"a": torch.randn(4, 5)}, {"a": torch.randn(3, 5)}
    assert torch.allclose(cosine_logits(h, w, 7.0)["a"], cosine_logits({"a": 100 * h["a"]}, w, 7.0)["a"], atol=1e-5)
    assert cosine_logits({"a": torch.zeros(2, 5)}, w, 7.0)["a"].abs().max() == 0
    assert cosine_logits({"a": w["a"]}, w, 7.0)["a"].diagonal().tolist() == pytest.approx([7.0] * 3)
    assert math.isfinite(cosine_logits({"a": 1e-20 * h["a"]}, w, 7.0)["a"].sum().item())


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_linear_inference_trains_cosines_and_answers_with_the_plain_head_and_its_untrained_bias(fusion: str) -> None:
    joint, cosine = tiny_run("joint", fusion=fusion)[0], tiny_run("mmcosine", fusion=fusion)[0]
    run, _ = tiny_run("mmcosine", {"inference": "linear"}, fusion=fusion)
    update(run)
    update(cosine)
    model, inputs = run.context.model, run.context.parts["train"].inputs
    assert all(map(torch.equal, model.parameters(), cosine.context.model.parameters())), "training is the same"
    bias = sum(p for name, p in joint.context.model.fusion.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        h = model.eval().encode(inputs)
        plain = sum(h[m] @ model.fusion.weight[m].T for m in model.modalities) + bias
        assert torch.allclose(model(inputs), plain, atol=1e-12)
        assert torch.allclose(sum(model.fusion.unimodal_logits(h).values()), plain, atol=1e-12)
        assert not torch.allclose(cosine.context.model.eval()(inputs), plain, atol=1e-3)
        assert torch.allclose(model.train().fusion(h), cosine.context.model.fusion(h)), "in training it is a cosine"
    assert "fusion.bias" in model.state_dict(), "a stored model answers alike"


def test_a_fusion_without_a_linear_head_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"needs fusion concat or sum, but got film"):
        tiny_run("mmcosine", fusion="film")


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"start": 0.5}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError):
        MmCosine(**settings)
