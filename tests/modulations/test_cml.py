"""CML against plain loops over samples and subsets, and what it promises."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.cml import Cml, overconfidence
from balance_tune.seeds import generator
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


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "film"), (4, "sum")])
def test_a_step_averages_the_losses_of_the_chain_and_adds_each_samples_own_excess(modalities: int, fusion: str) -> None:
    run = whole_batch_run("cml", {"lam": 2.0}, modalities=modalities, fusion=fusion, seed=3)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    order = torch.randperm(modalities, generator=generator("cpu", run.context.seed, "cml", 0)).tolist()
    losses, excesses = [], []
    for i, y in enumerate(labels):
        features = model.encode(row(inputs, i))
        left, answers = list(range(modalities)), []
        for k in range(modalities):
            kept = {m: h if j in left else 0 * h for j, (m, h) in enumerate(features.items())}
            answers.append(model.fusion(kept)[0])
            left.remove(order[k])
        sure = [max(probabilities(f)) for f in answers]
        losses.append(mean([cross_entropy(f, y) for f in answers]))
        excesses.append(sum((b - a).relu() for a, b in pairwise(sure)))
    assert_changes(update(run), descent(model, mean(losses) + 2.0 * mean(excesses)))
    excess = mean(excesses).item()
    assert excess > 0
    assert run.context.logged()["modulation/overconfidence"] == pytest.approx(excess)


def test_for_a_linear_head_a_modality_left_out_takes_its_own_term_with_it_and_leaves_the_bias() -> None:
    run = whole_batch_run("cml")
    model, _ = copy_of(run)
    features = model.encode(rows_of(run)[0])
    alone = model.fusion({**features, "image": torch.zeros_like(features["image"])})
    own = model.fusion.unimodal_logits(features)["image"]
    assert torch.allclose(alone, model.fusion(features) - own + model.fusion.head.bias / 2)


def test_confidence_that_falls_costs_nothing() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.0, 0.0]])
    assert overconfidence(unsure, sure).item() == 0
    assert overconfidence(sure, unsure).item() > 0


def test_a_negative_lam_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="lam >= 0"):
        Cml(lam=-1.0)
