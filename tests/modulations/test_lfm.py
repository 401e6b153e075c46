"""LFM against plain loops and a Hessian by differences, and what it promises."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.lfm import Lfm, jensen_shannon
from balance_tune.seeds import generator
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.modulations.by_hand import (
    Rows,
    assert_changes,
    copy_of,
    descent,
    mean,
    mean_loss,
    probabilities,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


def disagreement(model: MultimodalModel, rows: Rows) -> Tensor:
    found = []
    for i in range(len(rows[1])):
        answers = model.fusion.unimodal_logits(model.encode(row(rows[0], i))).values()
        for p, q in combinations([probabilities(f[0]) for f in answers], 2):
            middle = [(s + t) / 2 for s, t in zip(p, q, strict=True)]
            found += [sum(s * (s / m).log() for s, m in zip(side, middle, strict=True)) / 2 for side in (p, q)]
    pairs = len(answers) * (len(answers) - 1) / 2
    return sum(found) / (pairs * len(rows[1]))


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "mlp"), (4, "sum")])
def test_a_step_weighs_agreement_as_learnt_on_held_out_samples(modalities: int, fusion: str) -> None:
    settings = {"lr_a": 2.0, "a1": 0.4}
    run = whole_batch_run("lfm", settings, modalities=modalities, fusion=fusion, batch_size=22)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run, "monitor")
    draw = torch.randperm(12, generator=generator("cpu", run.context.seed, "lfm", 0)).tolist()
    held = {m: x[draw] for m, x in inputs.items()}, [labels[i] for i in draw]

    def total() -> Tensor:
        return 0.6 * mean_loss(model, held) + 0.4 * disagreement(model, held)

    direction = [-d for d in descent(model, mean_loss(model, held)).values()]
    step, gradients = 1e-5, []
    for sign in (1, -1):
        for p, v in zip(model.parameters(), direction, strict=True):
            p.data += sign * step * v
        gradients.append([-d for d in descent(model, total()).values()])
        for p, v in zip(model.parameters(), direction, strict=True):
            p.data -= sign * step * v
    products = torch.cat([((a - b) / (2 * step)).reshape(-1) for a, b in zip(*gradients, strict=True)])
    a1 = 0.4 - 2.0 * (sum(products.tolist()) / len(products))
    assert 0.05 < a1 < 0.95
    assert abs(a1 - 0.4) > 1e-4
    rows = rows_of(run)
    loss = 2 * ((1 - a1) * mean_loss(model, rows) + a1 * disagreement(model, rows))
    assert_changes(update(run), descent(model, loss), tolerance=1e-6)
    assert run.context.logged()["modulation/a1"] == pytest.approx(a1, abs=1e-6)


def test_jensen_shannon_is_symmetric_bounded_and_zero_for_equal_answers() -> None:
    torch.manual_seed(0)
    a, b = 5 * torch.randn(2, 8, 4, dtype=torch.float64)
    assert torch.allclose(jensen_shannon(a, b), jensen_shannon(b, a))
    assert (jensen_shannon(a, b) <= torch.log(torch.tensor(2.0))).all()
    assert torch.allclose(jensen_shannon(a, a + 1), torch.zeros(8).double(), atol=1e-12)


def test_jensen_shannon_of_certain_and_contrary_answers_is_log_2_and_finite_in_its_gradient() -> None:
    a = torch.tensor([[200.0, 0.0]], requires_grad=True)
    js = jensen_shannon(a, torch.tensor([[0.0, 200.0]]))
    js.sum().backward()
    assert js.item() == pytest.approx(mean([0.693147]), abs=1e-5)
    assert torch.isfinite(a.grad).all()


def test_the_balance_stays_within_the_official_bounds() -> None:
    for rate in (1e4, -1e4):
        run, modulation = tiny_run("lfm", {"lr_a": rate})
        learnt = [metrics["modulation/a1"] for metrics in train(run, modulation)]
        assert all(0.05 - 1e-9 <= a <= 0.95 + 1e-9 for a in learnt)


def test_measuring_leaves_gradients_mode_and_random_state_as_they_were() -> None:
    run, modulation = tiny_run("lfm")
    before, state = [p.detach().clone() for p in run.context.parameters], torch.random.get_rng_state()
    modulation.slope(run.context)
    assert run.context.model.training
    assert all(p.grad is None for p in run.context.parameters)
    assert all(map(torch.equal, before, run.context.parameters))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_start_outside_the_bounds_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="a1"):
        Lfm(a1=0.99)
