"""Shapley values of correctness against all orders of arrival, and the epochs that follow from them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from balance_tune.modulations.valuation import correctness, resampled, shapley
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.modulations.by_hand import mean, row, rows_of


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_a_modalitys_value_is_its_mean_gain_over_all_orders_of_arrival(modalities: int) -> None:
    generator = torch.Generator().manual_seed(modalities)
    right = torch.rand(2**modalities, 30, generator=generator) < 0.5
    right[0] = False
    phi = shapley(right)
    for i in range(30):
        value = {s: bin(s).count("1") if right[s, i] else 0 for s in range(2**modalities)}
        for j in range(modalities):
            gains = []
            for order in permutations(range(modalities)):
                before = sum(2**k for k in order[: order.index(j)])
                gains.append(value[before + 2**j] - value[before])
            assert phi[j, i].item() == pytest.approx(mean(gains))


def test_for_two_modalities_the_values_are_the_official_ones() -> None:
    """(both alone wrong, audio alone, image alone, both), one column a sample, by (joint, audio, image) right."""
    cases = [(1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 0)]
    right = torch.tensor([[0, a, b, joint] for joint, a, b in cases]).T.bool()
    assert shapley(right)[0].tolist() == [1.0, 1.5, 1.0, 0.5, 0.0, 0.0]
    assert shapley(right)[1].tolist() == [1.0, 0.5, 1.0, -0.5, 0.0, 0.0]


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "film"), (4, "mlp")])
def test_correctness_is_that_of_passes_with_silenced_inputs(modalities: int, fusion: str) -> None:
    run, modulation = tiny_run("joint", modalities=modalities, fusion=fusion)
    next(train(run, modulation))  # something is learnt, something is not
    model = run.context.model.train()
    inputs, labels = rows_of(run)
    rows = torch.tensor([3, 0, 21, 7])
    found = correctness(run.context, rows)
    assert model.training
    model.eval()
    for s in range(1, 2**modalities):
        present = tuple(m for j, m in enumerate(model.modalities) if s >> j & 1)
        for k, i in enumerate(rows.tolist()):
            answer = int(model(row(inputs, i, present))[0].argmax())
            assert found[s, k].item() == (answer == labels[i])
    assert not found[0].any()


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "film")])
def test_with_silenced_features_an_encoder_answers_nothing_even_where_zeros_would_give_features(
    modalities: int, fusion: str
) -> None:
    run, modulation = tiny_run("joint", modalities=modalities, fusion=fusion)
    next(train(run, modulation))
    model = run.context.model.eval()
    inputs, labels = rows_of(run)
    rows = torch.arange(22)
    found = correctness(run.context, rows, "features")
    for s in range(1, 2**modalities):
        for i in rows.tolist():
            features = model.encode(row(inputs, i))
            kept = {m: h if s >> j & 1 else 0 * h for j, (m, h) in enumerate(features.items())}
            assert found[s, i].item() == (int(model.fusion(kept)[0].argmax()) == labels[i])
    biases = [p for name, p in model.encoders.named_parameters() if name.endswith("bias")]
    with torch.no_grad():
        for p in biases:  # now an input of zeros has features
            p += 1.0
    assert not torch.equal(correctness(run.context, rows, "features"), correctness(run.context, rows, "inputs"))


@pytest.mark.parametrize("method", ["sample_valuation", "modality_valuation"])
def test_a_visit_with_silenced_features_shows_the_input_to_its_encoder(method: str) -> None:
    run, modulation = tiny_run(method, {"start": 0.0, "silence": "features"})
    ctx = run.context
    plan = resampled(ctx.plan(), [torch.arange(4), torch.tensor([], dtype=torch.long)], ctx, "x", modulation.silence)
    batches = list(ctx.planned(plan))
    alone = torch.cat([b.present for b in batches]).tolist()
    assert alone.count([True, False]) == 4
    assert all(bool(x.flatten(1).any(1).all()) for b in batches for x in b.inputs.values()), "no input is zero"
    for batch in batches:
        output = ctx.forward(batch)
        silent = ~batch.present[:, 1]
        assert not output.features["image"][silent].any()


def test_added_rows_have_one_modality_and_are_mixed_among_the_others() -> None:
    run, _ = tiny_run("joint", modalities=3)
    plan, extra = run.context.plan(), [torch.tensor(rows, dtype=torch.long) for rows in ([5, 5], [], [9])]
    made = resampled(plan, extra, run.context, "x")
    assert sorted(made.order.tolist()) == sorted([*range(22), 5, 5, 9])
    alone = [(int(i), p.tolist()) for i, p in zip(made.order, made.present, strict=True) if not p.all()]
    assert sorted(alone) == [(5, [True, False, False]), (5, [True, False, False]), (9, [False, False, True])]
    assert made.order.tolist()[:22] != plan.order.tolist()
    again = resampled(plan, extra, run.context, "x")
    assert torch.equal(made.order, again.order)
    assert torch.equal(made.present, again.present)


def test_a_plan_to_which_nothing_is_added_stays_as_it_is() -> None:
    run, _ = tiny_run("joint")
    plan, nothing = run.context.plan(), torch.tensor([], dtype=torch.long)
    assert resampled(plan, [nothing, nothing], run.context, "x") is plan
