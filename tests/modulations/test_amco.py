"""AMCo against plain loops over samples and classes, and what it promises."""

from __future__ import annotations

import math

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.amco import Amco, mask_ratio
from balance_tune.testing.tiny import tiny_run
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    mean,
    probabilities,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "sum"), (4, "mlp")])
@pytest.mark.parametrize(("eps", "zeros"), [(1.0, 1), (0.3, 3)])
def test_a_step_masks_whoever_the_answer_depends_on(modalities: int, fusion: str, eps: float, zeros: int) -> None:
    sigma = 1 / modalities  # somebody lies above the mean share
    run = whole_batch_run("amco", {"sigma": sigma, "eps": eps}, modalities=modalities, fusion=fusion)
    model, _ = copy_of(run)
    run.context.epoch = 1  # of three: p = sin(pi/2 min(eps, 1/3) / eps)
    inputs, labels = rows_of(run)
    order = torch.randperm(3, generator=run.context.shared_generator("amco")).tolist()
    mask = [0.0 if place < zeros else 1.0 for place in order]
    answers, parts = [], []
    for i in range(len(labels)):
        alone = model.fusion.inner.unimodal_logits(model.encode(row(inputs, i)))
        answers.append({m: f[0] for m, f in alone.items()})
        together = probabilities(torch.cat([f[0] for f in alone.values()]))
        parts.append([sum(together[3 * j : 3 * j + 3]).item() for j in range(modalities)])
    share = [mean([p[j] for p in parts]) for j in range(modalities)]
    dependent = [s > sigma for s in share]
    assert any(dependent)
    losses = []
    for i, y in enumerate(labels):
        z = list(model.fusion.inner(model.encode(row(inputs, i)))[0])
        for d, f in zip(dependent, answers[i].values(), strict=True):
            z = [v + (k - 1) * g if d else v for v, k, g in zip(z, mask, f, strict=True)]
        mix = model.fusion.mix
        fused = torch.stack([sum(a * v for a, v in zip(w, z, strict=True)) + b for w, b in zip(mix.weight, mix.bias)])  # noqa: B905
        losses.append(cross_entropy(fused, y) + sum(cross_entropy(f, y) for f in answers[i].values()))
    assert_changes(update(run), descent(model, mean(losses)))
    logged = run.context.logged()
    assert [logged[f"modulation/share/{m}"] for m in model.modalities] == pytest.approx(share)
    assert [logged[f"modulation/dependent/{m}"] for m in model.modalities] == dependent


def test_for_linear_heads_the_masked_answer_is_the_sum_of_masked_answers() -> None:
    run = whole_batch_run("amco", {"sigma": 0.35, "eps": 0.1})
    ctx, modulation = run.context, run.context.modulation
    ctx.epoch = 1
    modulation.forward(next(ctx.planned(ctx.plan())), ctx)  # keeps the answers of this step
    output = modulation.masked(ctx.forward(next(ctx.planned(ctx.plan()))), torch.tensor([1.0, 0.0]).double(), ctx)
    assert torch.allclose(output.logits, ctx.model.fusion.mix(modulation.answers["image"]))


def test_nothing_is_masked_at_first_and_a_dependent_modality_is_gone_from_eps_on() -> None:
    assert mask_ratio(0.0, 0.3) == 0
    assert mask_ratio(0.1, 0.3) == pytest.approx(math.sin(math.pi / 6))
    assert mask_ratio(0.3, 0.3) == mask_ratio(0.9, 0.3) == 1


def test_the_extra_layer_is_part_of_the_model_and_unimodal_answers_are_those_before_it() -> None:
    run, _ = tiny_run("amco")
    model = run.context.model
    features = model.encode(run.context.parts["train"].inputs)
    assert {"fusion.mix.weight", "fusion.mix.bias"} <= model.state_dict().keys()
    alone = model.fusion.unimodal_logits(features)
    assert torch.allclose(model.fusion(features), model.fusion.mix(alone["audio"] + alone["image"]))


def test_an_eps_of_zero_and_a_window_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="0 < eps <= 1"):
        Amco(eps=0.0)
    with pytest.raises(UserError, match="no window"):
        Amco(end=0.5)
