"""MBSD against plain loops over samples and pairs, and what it promises."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.mbsd import Mbsd, bias_weight, distillation
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    mean,
    mean_loss,
    probabilities,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "gated"), (4, "sum")])
def test_a_step_teaches_the_less_sure_of_each_pair_sample_by_sample(modalities: int, fusion: str) -> None:
    run = whole_batch_run("mbsd", {"weight": 1.3}, modalities=modalities, fusion=fusion)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    own, drawn = [], []
    for i, y in enumerate(labels):
        answers = {m: f[0] for m, f in model.fusion.unimodal_logits(model.encode(row(inputs, i))).items()}
        own.append(sum(cross_entropy(f, y) for f in answers.values()))
        terms = []
        for a, b in combinations(answers.values(), 2):
            if probabilities(a)[y] < probabilities(b)[y]:
                a, b = b, a
            p, q = [v.detach() for v in probabilities(a)], probabilities(b)
            right = int(a.argmax()) == y or int(b.argmax()) == y
            v = (p[y] - q[y]).item() if right else 0.0
            likeness = mean([(s - t) ** 2 for s, t in zip(a, b, strict=True)])
            taught = sum(s * (s.log() - t.log()) for s, t in zip(p, q, strict=True))
            terms.append(v * (likeness + taught))
        drawn.append(mean(terms))
    loss = mean_loss(model, (inputs, labels)) + 1.3 * (mean(own) + mean(drawn))
    assert_changes(update(run), descent(model, loss))


def test_a_sample_that_both_get_wrong_is_left_alone() -> None:
    wrong, right = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, 0.5]])
    labels = torch.tensor([0])
    assert bias_weight(wrong, 2 * wrong, labels).item() == 0
    assert bias_weight(wrong, right, labels).item() > 0


def test_the_surer_one_is_not_moved() -> None:
    sure, unsure = (torch.tensor([[v, 0.0, 0.0]], requires_grad=True) for v in (3.0, 0.2))
    distillation(unsure, sure, torch.tensor([0])).sum().backward()
    assert sure.grad is None or not sure.grad.any()
    assert unsure.grad[0, 0] < 0


def test_a_negative_weight_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="weight >= 0"):
        Mbsd(weight=-0.1)
