"""MCR against the official code's numbers (with its terms added to the loss), and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.mcr import contrastive, divergence, game
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.golden import golden

CASES = golden("mcr")["cases"]
PLAIN = [case for case in CASES if not case["batchnorm"] and case["permutations"]]


def title(case: dict[str, Any]) -> str:
    return f"{case['game']} {case['shuffle_type']} {case['num_samples']}"


def parts_of(case: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The linear head's parts W_m h_m of both modalities."""
    parts = {}
    for m in ("0", "1"):
        x = torch.tensor(case["inputs"][m], dtype=torch.float64)
        h = F.linear(x, state[f"enc_{m}.net.weight"], state[f"enc_{m}.net.bias"])
        parts[m] = F.linear(h, state[f"fc_{m}_lin.weight"])
    return parts


def weights_of(case: dict[str, Any]) -> dict[str, Tensor]:
    return {n: torch.tensor(w, dtype=torch.float64, requires_grad=True) for n, w in case["state"].items()}


@pytest.mark.parametrize("case", CASES, ids=title)
def test_the_divergence_is_the_official_one(case: dict[str, Any]) -> None:
    base = torch.tensor(case["base_logits"]).double()
    for k, m in enumerate(("audio", "video")):
        permuted = torch.tensor(case["perturbed_logits"][f"{m}_permuted"]).double()
        assert divergence(base, permuted).item() == pytest.approx(case["js"][f"all_p{k}"], rel=1e-4, abs=1e-8)
        if case["shuffle_type"] == "rand" and case["permutations"]:
            logits = torch.tensor(case["logits"]).double()
            assert divergence(logits, permuted).item() == pytest.approx(case["js"][f"all_p{k}"], rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("case", PLAIN, ids=title)
def test_the_games_gradients_are_the_official_ones(case: dict[str, Any]) -> None:
    state = weights_of(case)
    parts = parts_of(case, state)
    fused = parts["0"] + parts["1"] + state["bias_lin"]
    sigma, labels = torch.tensor(case["permutations"]), torch.tensor(case["labels"])
    counts = labels[sigma] != labels if case["shuffle_type"] == "rand_rsl" else None
    value, single = game(parts, fused, sigma, case["game"], counts=counts)
    assert case["l"] * value.item() == pytest.approx(case["regulariser"], rel=1e-4, abs=1e-8)
    assert [js.item() for js in single.values()] == pytest.approx(
        [case["js"]["all_p0"], case["js"]["all_p1"]], rel=1e-4, abs=1e-8
    )
    (case["l"] * value).backward()
    for name, gradient in case["regulariser_gradients"].items():
        official = torch.tensor(gradient).double() if gradient is not None else torch.zeros_like(state[name])
        own = state[name].grad if state[name].grad is not None else torch.zeros_like(state[name])
        assert torch.allclose(own, official, rtol=1e-3, atol=1e-7), name


def test_the_contrastive_term_is_the_mean_over_pairs_of_one_label() -> None:
    generator = torch.Generator().manual_seed(0)
    h = {m: torch.randn(5, 3, generator=generator, dtype=torch.float64) for m in "ab"}
    labels = torch.tensor([0, 1, 0, 2, 1])
    rows = [(x / x.norm(), y) for m in "ab" for x, y in zip(h[m], labels.tolist(), strict=True)]
    losses = []
    for i, (x, y) in enumerate(rows):
        others = sum(torch.exp(x @ z / 0.5) for z, other in rows if other != y)
        for j, (z, other) in enumerate(rows):
            if i != j and y == other:
                e = torch.exp(x @ z / 0.5)
                losses.append(-torch.log(e / (e + others)))
    assert contrastive(h, labels, 0.5).item() == pytest.approx(torch.stack(losses).mean().item())


def test_without_pairs_or_without_other_labels_the_contrastive_term_is_zero_and_has_a_gradient() -> None:
    for labels in ([0], [1, 1, 1]):
        h = torch.randn(len(labels), 3, dtype=torch.float64, requires_grad=True)
        loss = contrastive({"a": h}, torch.tensor(labels), 0.5)
        loss.backward()
        assert loss.item() == pytest.approx(0.0)
        assert bool(h.grad.isfinite().all())


def test_for_three_modalities_every_subset_pulls_its_members_one_way_and_the_others_the_other() -> None:
    generator = torch.Generator().manual_seed(1)
    parts = {m: torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True) for m in "abc"}
    sigma = torch.stack([torch.randperm(4, generator=generator) for _ in range(2)])
    fused = torch.stack(list(parts.values())).sum(0)
    value, _ = game(parts, fused, sigma, "greedy")
    value.backward()
    expected = {m: torch.zeros(4, 3, dtype=torch.float64) for m in "abc"}
    for chosen in ("a", "b", "c", "ab", "ac", "bc"):
        free = {m: x.detach().clone().requires_grad_() for m, x in parts.items()}
        permuted = torch.stack([x[sigma] if m in chosen else x.expand(2, 4, 3) for m, x in free.items()]).sum(0)
        divergence(fused.detach(), permuted.flatten(0, 1)).backward()
        for m, x in free.items():
            expected[m] += -x.grad if m in chosen else x.grad
    for m, x in parts.items():
        assert torch.allclose(x.grad, expected[m]), m


@pytest.mark.parametrize("fusion", ["concat", "sum", "late", "film", "mlp"])
def test_the_greedy_games_gradient_does_not_depend_on_how_the_head_is_computed(fusion: str) -> None:
    run, method = tiny_run("mcr", {"c": 0.0, "weight": 0.0}, fusion=fusion)
    ctx = run.context
    batch = next(iter(ctx.planned(ctx.plan())))
    output = ctx.forward(batch)
    losses = method.on_losses({}, output, batch, ctx)
    assert losses["game"].item() == pytest.approx(0.0, abs=1e-15)
    losses["game"].backward()
    learnt = {n for n, p in ctx.model.named_parameters() if p.grad is not None and bool((p.grad.abs() > 1e-12).any())}
    assert any(name.startswith("encoders.audio") for name in learnt)
    assert any(name.startswith("encoders.image") for name in learnt)
    assert not [n for n in learnt if n.startswith("fusion") and ("bias" in n or fusion in ("film", "mlp"))]


def test_other_games_and_permutations_train() -> None:
    for settings in ({"game": "ind"}, {"game": "colab"}, {"shuffle": "rand_rsl"}):
        for fusion in ("concat", "mlp"):
            run, method = tiny_run("mcr", {"c": 0.0, **settings}, fusion=fusion)
            assert all("modulation/js/audio" in metrics for metrics in train(run, method))


def test_the_ceb_term_rebuilds_features_from_the_answer_and_moves_the_features_alone() -> None:
    run, method = tiny_run("mcr", {"l": 0.0, "c": 0.0, "ceb": 0.7}, fusion="late")
    ctx = run.context
    batch = next(iter(ctx.planned(ctx.plan())))
    output = ctx.forward(batch)
    loss = method.on_losses({}, output, batch, ctx)["ceb"]
    first, _, second = ctx.modules["reconstruction"].layers
    squares = []
    for i, f in enumerate(output.logits):
        hidden = [max(0.0, (w @ f).item()) for w in first.weight]
        rebuilt = [sum(a * b for a, b in zip(w.tolist(), hidden, strict=True)) for w in second.weight]
        h = torch.cat([x[i] for x in output.features.values()]).tolist()
        squares += [(a - b) ** 2 for a, b in zip(h, rebuilt, strict=True)]
    assert loss.item() == pytest.approx(0.7 * sum(squares) / len(squares))
    loss.backward()
    assert all(p.grad is None for p in ctx.model.fusion.parameters())
    assert all(bool(p.grad.any()) for p in ctx.modules["reconstruction"].parameters())
    assert all(p.grad is not None for p in ctx.model.encoders.parameters())


def test_features_of_several_widths_are_refused_unless_they_are_not_compared() -> None:
    with pytest.raises(UserError, match="must have one width"):
        tiny_run("mcr")
    tiny_run("mcr", {"c": 0.0})


def test_a_pretrained_start_copies_encoders_and_heads_and_is_done_once() -> None:
    run, method = tiny_run("mcr", {"pretrain": 0.67}, data=tiny_data(2, alike=True))
    before = {n: p.clone() for n, p in run.context.model.encoders.named_parameters()}
    heads = {n: p.clone() for n, p in run.context.modules.named_parameters()}
    method.on_epoch_start(run.context)
    assert all(not torch.equal(p, before[n]) for n, p in run.context.model.encoders.named_parameters())
    assert all(not torch.equal(p, heads[n]) for n, p in run.context.modules.named_parameters())
    after = {n: p.clone() for n, p in run.context.model.encoders.named_parameters()}
    run.context.epoch = 1
    method.on_epoch_start(run.context)
    assert all(torch.equal(p, after[n]) for n, p in run.context.model.encoders.named_parameters())
