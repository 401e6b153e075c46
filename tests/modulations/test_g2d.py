"""G2D against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from balance_tune.modulations.g2d import distillation, priority
from balance_tune.modulations.scores import score_sums
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.golden import golden

CASES = golden("g2d")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['fusion']} {case['epoch']}")
def test_losses_and_priority_are_the_official_ones(case: dict[str, Any]) -> None:
    fused = torch.tensor(case["fused_logits"]).double()
    teachers = {m: torch.tensor(case[f"teacher_{m}_logits"]).double() for m in ("audio", "visual")}
    labels = torch.tensor(case["labels"])
    for m, t in teachers.items():
        loss = distillation(fused, t, case["temperature"]).mean().item()
        assert loss == pytest.approx(case[f"loss_distill_{m}"], rel=1e-4, abs=1e-6)
        h, target = (torch.tensor(case[name]).double() for name in (f"{m}_feature", f"teacher_{m}_feature"))
        assert (h - target).square().mean(1).mean().item() == pytest.approx(case[f"loss_feature_{m}"], rel=1e-4)
    scores = dict(zip(teachers, score_sums(teachers, labels), strict=True))
    for m, s in scores.items():
        assert s.item() == pytest.approx(case[f"teacher_score_{m}"], rel=1e-4)
    if case["starts"] <= case["epoch"] <= case["ends"]:
        k = priority(scores)
        assert [k[m].item() for m in teachers] == [case[f"coefficient_{m}"] for m in teachers]


def test_a_tie_of_two_stops_nobody_and_of_three_only_the_weakest_learns() -> None:
    assert [k.item() for k in priority({"a": torch.tensor(2.0), "b": torch.tensor(2.0)}).values()] == [1.0, 1.0]
    three = {m: torch.tensor(s) for m, s in {"a": 3.0, "b": 1.0, "c": 2.0}.items()}
    assert [k.item() for k in priority(three).values()] == [0.0, 1.0, 0.0]


def test_a_step_is_the_slow_reference() -> None:
    settings = {"logit_weight": 0.7, "feature_weight": 0.3, "temperature": 2.0, "priority_end": 0.5}
    plain = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0, "epochs": 4, "lr": 1.0}
    run, method = tiny_run("g2d", settings, data=tiny_data(2), **plain)
    ctx, part = run.context, run.context.parts["train"]
    method.on_epoch_start(ctx)
    ctx.model.train()
    ctx.optimization.set_rate(1.0)
    features = ctx.model.encode(part.inputs)
    logits = ctx.model.fusion(features)
    loss, scores = F.cross_entropy(logits, part.labels), {}
    for m, h in features.items():
        target, t = ctx.modules[m](part.inputs[m])
        kl = F.kl_div((logits / 2).log_softmax(1), (t / 2).softmax(1), reduction="batchmean")
        loss = loss + 0.7 * 4 * kl + 0.3 * F.mse_loss(h, target)
        scores[m] = t.softmax(1)[torch.arange(len(t)), part.labels].sum().item()
    weights = dict(ctx.model.named_parameters())
    expected = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    leader = max(scores, key=lambda m: scores[m])
    conv = {id(p) for p in ctx.model.parameters_of(leader, "auto")}
    before = {n: p.detach().clone() for n, p in weights.items()}
    method.train_step(next(iter(ctx.planned(ctx.plan()))), ctx)
    for name, p in weights.items():
        g = 0 * expected[name] if id(p) in conv else expected[name]
        assert torch.allclose(p - before[name], -g, rtol=1e-8, atol=1e-10), name


def test_the_priority_ends_and_the_losses_stay() -> None:
    run, method = tiny_run("g2d", {"priority_end": 0.5}, epochs=4)
    logged = ["modulation/priority/audio" in metrics for metrics in train(run, method)]
    assert logged == [True, True, True, False]
