"""MMPareto against plain loops over gradients, and what it promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.modulations.mmpareto import MMPareto, integrate, min_norm_weight, pareto_weight
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    inner,
    length,
    mean,
    mean_loss,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "sum"), (4, "mlp")])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_integrates_each_encoders_two_gradients(modalities: int, fusion: str, seed: int) -> None:
    run = whole_batch_run("mmpareto", {"gamma": 1.7}, modalities=modalities, fusion=fusion, seed=seed)
    model, heads = copy_of(run)
    inputs, labels = rows_of(run)
    expected, weights = descent(model, mean_loss(model, (inputs, labels))), {}
    for m in model.modalities:
        answers = [heads[m](model.encode(row(inputs, i))[m])[0] for i in range(len(labels))]
        own = descent(model, mean([cross_entropy(f, y) for f, y in zip(answers, labels, strict=True)]))
        mine = [n for n in expected if n.startswith(f"encoders.{m}.")]
        a, b = [-expected[n] for n in mine], [-own[n] for n in mine]
        weights[m] = 0.5 if inner(a, b) > 0 else shortest(a, b)
        for n, g_mm, g_u in zip(mine, a, b, strict=True):
            g = 2 * weights[m] * g_mm + 2 * (1 - weights[m]) * g_u
            expected[n] = -1.7 * g * max(1.0, length([g_mm + g_u]) / length([g]))
    assert_changes(update(run), expected)
    found = run.context.logged()
    assert {m: found[f"modulation/fused_weight/{m}"] for m in weights} == pytest.approx(weights)


def shortest(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the weight at which w a + (1 - w) b is perpendicular to a - b, so that no other is shorter."""
    apart = [x - y for x, y in zip(a, b, strict=True)]
    return -inner(b, apart) / inner(apart, apart)


def test_the_reference_meets_agreement_and_conflict() -> None:
    met = set()
    for seed in (0, 1):
        run = whole_batch_run("mmpareto", modalities=4, seed=seed)
        update(run)
        met |= {v == 0.5 for n, v in run.context.logged().items() if "fused_weight" in n}
    assert met == {True, False}


def test_heads_and_fusion_follow_the_plain_sum_of_losses() -> None:
    run, plain = whole_batch_run("mmpareto"), whole_batch_run("multi_loss")
    found, expected = update(run), update(plain)
    for name in ("fusion.head.weight", "fusion.head.bias"):
        assert torch.allclose(found[name], expected[name])
    for p, q in zip(run.context.modules.parameters(), plain.context.modules.parameters(), strict=True):
        assert torch.allclose(p, q)


def test_two_losses_that_agree_are_added_up_and_stretched_by_gamma() -> None:
    a, b = [torch.tensor([1.0, 2.0])], [torch.tensor([2.0, 0.5])]
    w = pareto_weight(a, b)
    assert w.item() == 0.5
    assert torch.allclose(integrate(a, b, w, gamma=1.5)[0], torch.tensor([4.5, 3.75]))


def test_where_they_disagree_the_step_hurts_neither_and_keeps_the_plain_length() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        a, b = torch.randn(7), torch.randn(7)
        b = b if a @ b < 0 else -b
        (g,) = integrate([a], [b], pareto_weight([a], [b]), gamma=1.0)
        assert a @ g >= -1e-5
        assert b @ g >= -1e-5
        assert g.norm() >= (a + b).norm() - 1e-5


def test_the_min_norm_weight_stays_off_the_ends_as_officially() -> None:
    def weight(aa: float, ab: float, bb: float) -> float:
        return min_norm_weight(torch.tensor(aa), torch.tensor(ab), torch.tensor(bb)).item()

    assert weight(1.0, 1.5, 4.0) == pytest.approx(0.999)
    assert weight(4.0, 1.5, 1.0) == pytest.approx(0.001)
    assert weight(1.0, -1.0, 3.0) == pytest.approx(4 / 6)


def test_opposite_gradients_are_not_stretched_to_rounding_noise() -> None:
    a = torch.tensor([0.3, -0.7, 0.1])
    (g,) = integrate([a], [-2 * a], pareto_weight([a], [-2 * a]), gamma=1.5)
    assert g.norm() < 1e-5


def test_a_gamma_of_zero_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="gamma > 0"):
        MMPareto(gamma=0.0)
