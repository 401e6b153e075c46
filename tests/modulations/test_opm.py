"""OPM against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.modulations.opm import Opm, drop, drop_probabilities
from balance_tune.modulations.scores import score_sums
from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import run_on, update

OFFICIAL = golden("opm")


def scores(*values: float) -> dict[str, Tensor]:
    return {f"m{i}": torch.tensor(v, dtype=torch.float64) for i, v in enumerate(values)}


@pytest.mark.parametrize("case", OFFICIAL["q_cases"])
def test_drop_probabilities_are_the_official_ones(case: dict[str, Any]) -> None:
    q = drop_probabilities(scores(case["performance_1"], case["performance_2"]), case["q_base"], case["lam"])
    assert [p.item() for p in q.values()] == pytest.approx(case["q"], abs=1e-5)


def test_the_weakest_modality_is_never_dropped_so_no_sample_loses_everything() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        values = torch.rand(4, generator=generator).tolist()
        q = drop_probabilities(scores(*values), 0.9, 1.0)
        assert q[f"m{values.index(min(values))}"].item() == 0


def test_with_three_modalities_everyone_above_the_mean_ratio_may_be_dropped() -> None:
    q = drop_probabilities(scores(4.0, 3.0, 1.0), 0.4, 0.5)
    z = torch.tanh(torch.tensor([(4 / 3 + 4) / 2 - 1, (3 / 4 + 3) / 2 - 1], dtype=torch.float64))
    assert [p.item() for p in q.values()] == pytest.approx([*(0.4 * (1 + 0.5 * z)).tolist(), 0.0])


@pytest.mark.parametrize("case", OFFICIAL["drop_cases"])
def test_dropping_gives_the_official_features_and_gradients(case: dict[str, Any]) -> None:
    features = {m: torch.tensor(case[f"feat_{i}"]).double().requires_grad_() for i, m in ((1, "a"), (2, "b"))}
    cleaned = {m: torch.tensor(case[f"cleaned_{i}"]).double() for i, m in ((1, "a"), (2, "b"))}
    widths = [h.shape[1] for h in features.values()]
    weight, labels = torch.tensor(case["W"]).double(), torch.tensor(case["labels"])
    alone = {
        m: h.detach() @ w.T + torch.tensor(case["b"]).double() / 2
        for (m, h), w in zip(features.items(), weight.split(widths, dim=1), strict=True)
    }
    found = score_sums(alone, labels)
    assert found.tolist() == pytest.approx([case["performance_1"], case["performance_2"]], abs=1e-5)
    kept = torch.stack([(c != 0).any(1).double() for c in cleaned.values()], dim=1)
    q = torch.tensor(case["q"]).double()
    dropped = drop(features, kept.T, q)
    for m in features:
        assert torch.allclose(dropped[m], cleaned[m], atol=1e-5)
    torch.stack([h.sum() for h in dropped.values()]).sum().backward()
    for m, grad in zip(features, case["grad_of_sum"], strict=True):
        assert torch.allclose(features[m].grad, torch.tensor(grad).double(), atol=1e-5)


def test_when_both_modalities_are_dropped_the_factor_and_the_survivors_are_the_official_ones() -> None:
    case = OFFICIAL["forced_all_drop_case"]
    features = {m: torch.tensor(case[f"feat_{i}"]).double() for i, m in ((1, "a"), (2, "b"))}
    survivors = torch.tensor(case["update_flag"]).bool()
    cleaned = {m: torch.tensor(case[f"cleaned_{i}"]).double() for i, m in ((1, "a"), (2, "b"))}
    kept = torch.zeros(len(survivors), 2, dtype=torch.float64)
    kept[survivors] = torch.stack([(c != 0).any(1).double() for c in cleaned.values()], dim=1)
    q = torch.tensor(case["q"]).double()
    dropped = drop(features, kept.T, q)
    for m in features:
        assert torch.allclose(dropped[m][survivors], cleaned[m], atol=1e-5)
    assert torch.equal(kept.amax(1).bool(), survivors)


def test_a_step_is_the_loss_on_features_dropped_by_its_own_masks() -> None:
    """An obvious re-computation: draw as the method draws, drop sample by sample, average over what is left."""
    torch.manual_seed(0)
    features = {"a": torch.randn(9, 3), "b": torch.randn(9, 4), "c": torch.randn(9, 2)}
    labels = torch.arange(9) % 3
    settings = {"start": 0.0, "q_base": 0.9, "lam": 1.0, "p_exe": 1.0}
    run = run_on(features, labels, 3, "opm", modulation=settings)
    ctx = run.context
    head = ctx.model.fusion.head
    w, b = head.weight.detach().clone(), head.bias.detach().clone()
    order = ctx.plan().order
    alone = {m: h.double() @ w[:, ctx.model.fusion.columns[m]].T + b / 3 for m, h in features.items()}
    s = {m: sum(f.softmax(1)[i, labels[i]] for i in range(9)) for m, f in alone.items()}
    q = drop_probabilities({m: v.detach() for m, v in s.items()}, 0.9, 1.0)
    draws = ctx.shared_uniform("opm", 3, ctx.settings.batch_size)
    widths = torch.tensor([3.0, 4.0, 2.0])
    theta = sum(d * p for d, p in zip(widths, q.values(), strict=True)) / widths.sum()
    losses = []
    w.requires_grad_()
    for place, i in enumerate(order.tolist()):
        kept = {m: bool(draws[j, place] >= p) for j, (m, p) in enumerate(q.items())}
        h = torch.cat([features[m][i].double() * kept[m] / (1 - theta) for m in features])
        losses.append(torch.nn.functional.cross_entropy((w @ h + b)[None], labels[i : i + 1]))
    torch.stack(losses).mean().backward()
    assert torch.allclose(update(run)["fusion.head.weight"], -w.grad, atol=1e-6)


def test_so_many_steps_are_executed_as_p_exe_says_and_the_others_are_plain() -> None:
    run, _ = tiny_run("opm", {"start": 0.0, "p_exe": 0.7}, batch_size=22)
    ctx = run.context
    batch = next(ctx.planned(ctx.plan()))
    executed = 0
    for ctx.step in range(400):
        output = ctx.forward(batch)
        plain = all(output.features[m] is output.full_features[m] for m in output.features)
        executed += not plain
    assert 0.6 < executed / 400 < 0.8
    assert not any(ctx.shared_coin("any", 0.0) or not ctx.shared_coin("any", 1.0) for ctx.step in range(50))


def test_the_leading_modality_alone_is_dropped_of_two() -> None:
    run, _ = tiny_run("opm", {"start": 0.0, "p_exe": 1.0}, batch_size=22)
    update(run)
    q = run.context.logged()
    assert min(q["modulation/q/audio"], q["modulation/q/image"]) == 0
    assert max(q["modulation/q/audio"], q["modulation/q/image"]) >= 0.4


def test_a_trial_is_not_judged_inside_the_warm_up() -> None:
    assert Opm(start=0.1).min_epochs(20) == 3
    assert not Opm(start=0.1).acts(1, 20)
    assert Opm(start=0.1).acts(2, 20)


def test_a_probability_outside_0_and_1_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="0 <= q_base <= 1"):
        Opm(q_base=1.5)
