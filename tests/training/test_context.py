"""What a method is given: scores once per step, weighted means, its own generator, and no held-out labels."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from balance_tune.modulations.batch import Batch, EpochPlan
from balance_tune.replicas import Replicas
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.testing.workers import Workers
from balance_tune.training.context import RunContext


def batch_of(ctx: RunContext) -> Batch:
    return next(iter(ctx.planned(ctx.plan())))


def test_a_method_is_given_no_validation_and_no_test_rows() -> None:
    run, _ = tiny_run("joint")
    assert set(run.context.parts) == {"train", "monitor"}
    assert "val" not in inspect.signature(RunContext).parameters
    with pytest.raises(KeyError):
        run.context.encode("val")  # type: ignore[arg-type]


def test_scores_are_the_summed_probabilities_of_the_unimodal_answers_and_computed_once() -> None:
    run, _ = tiny_run("joint", modalities=3)
    ctx = run.context
    batch = batch_of(ctx)
    output = ctx.forward(batch)
    alone = ctx.model.fusion.unimodal_logits(output.features)
    for m, f in alone.items():
        expected = f.softmax(1)[torch.arange(len(batch)), batch.labels].sum()
        assert torch.allclose(ctx.scores[m], expected)
    assert ctx.score_vector is ctx.score_vector


def test_a_weight_of_zero_takes_a_sample_out_of_the_mean() -> None:
    ctx = tiny_run("joint")[0].context
    batch = batch_of(ctx)
    weight = torch.ones(len(batch), dtype=torch.float64)
    weight[0] = 0
    values = torch.arange(len(batch), dtype=torch.float64)
    assert ctx.mean(values, batch.weighted(weight)).item() == pytest.approx(values[1:].mean().item())


def _weighted_gradients(weights: list[float] | None) -> tuple[list[float], list[float]]:
    """Return d mean / d (one factor per sample of the global batch), averaged over workers, and the rows' weights."""
    ctx = tiny_run("joint", replicas=Replicas())[0].context
    batch = batch_of(ctx)
    factors = torch.ones(200, dtype=torch.float64, requires_grad=True)
    if weights is not None:
        own = torch.tensor(weights, dtype=torch.float64)[ctx.replicas.rank :: ctx.replicas.world][: len(batch)]
        batch = batch.weighted(own)
    ctx.mean(factors[batch.index] * (1 + batch.index), batch).backward()
    assert factors.grad is not None
    (gradient,) = ctx.replicas.average([factors.grad])
    return gradient.tolist(), ctx.plan().order[:8].tolist()


@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.5, 5.0, 0.0, 2.0, 0.25, 3.0]])
def test_the_gradient_of_a_weighted_mean_on_two_workers_is_that_of_the_global_mean(weights: list[float] | None) -> None:
    workers = Workers(2)
    try:
        answers = workers.run(_weighted_gradients, weights)
    finally:
        workers.close()
    rows = answers[0][1]
    share = np.asarray(weights or [1.0] * 8) / sum(weights or [1.0] * 8)
    expected = np.zeros(200)
    expected[rows] = share * (1 + np.asarray(rows))
    for gradient, _ in answers:
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(_weighted_gradients(weights)[0], expected, rtol=1e-12, atol=1e-15)


def test_the_weighted_loss_of_equal_weights_is_the_plain_loss() -> None:
    ctx = tiny_run("joint")[0].context
    batch = batch_of(ctx)
    logits = ctx.forward(batch).logits
    ones = batch.weighted(torch.full((len(batch),), 0.5, dtype=torch.float64))
    assert torch.allclose(ctx.loss(logits, batch), ctx.loss(logits, ones))


def test_silenced_modalities_are_zero_inputs_and_run_no_hook() -> None:
    ctx = tiny_run("opm", {"start": 0.0, "p_exe": 1.0})[0].context
    batch = batch_of(ctx)
    output = ctx.forward(batch, present=["image"])
    silent = {m: torch.zeros_like(x) if m == "audio" else x for m, x in batch.inputs.items()}
    assert torch.equal(output.logits, ctx.model(silent))


def test_gradients_of_each_loss_add_up_to_those_of_their_sum() -> None:
    ctx = tiny_run("joint")[0].context
    batch = batch_of(ctx)
    output = ctx.forward(batch)
    apart = ctx.gradients({"a": ctx.loss(output.logits, batch), "b": output.logits.square().mean()})
    again = ctx.forward(batch)
    ctx.backward(ctx.loss(again.logits, batch) + again.logits.square().mean())
    for p, a, b in zip(ctx.parameters, apart["a"], apart["b"], strict=True):
        assert torch.allclose(p.grad, a + b)


def test_the_shared_generator_depends_on_purpose_and_step_only() -> None:
    ctx, other = tiny_run("joint")[0].context, tiny_run("joint")[0].context
    a = torch.rand(3, generator=ctx.shared_generator("x"))
    torch.rand(9, generator=other.shared_generator("y"))
    assert torch.equal(a, torch.rand(3, generator=other.shared_generator("x")))
    ctx.step += 1
    assert not torch.equal(a, torch.rand(3, generator=ctx.shared_generator("x")))


def test_a_scaled_learning_rate_holds_for_one_step_and_any_optimiser() -> None:
    moved = {}
    for optimizer in ("sgd", "adam", "adamw"):
        plain, scaled = (tiny_run("joint", optimizer=optimizer)[0].context for _ in range(2))
        deltas = []
        for ctx, factor in ((plain, None), (scaled, torch.tensor(0.25))):
            before = [p.detach().clone() for p in ctx.model.parameters_of("audio")]
            batch = batch_of(ctx)
            ctx.backward(ctx.loss(ctx.forward(batch).logits, batch))
            if factor is not None:
                ctx.scale_lr("audio", factor)
            ctx.optimizer_step()
            deltas.append([p.detach() - b for p, b in zip(ctx.model.parameters_of("audio"), before, strict=True)])
        moved[optimizer] = all(torch.allclose(b, 0.25 * a, atol=1e-12) for a, b in zip(*deltas, strict=True))
    assert moved == {"sgd": True, "adam": True, "adamw": True}


def test_an_epoch_plan_may_repeat_rows_and_take_modalities_away() -> None:
    ctx = tiny_run("joint")[0].context
    plan = EpochPlan(torch.tensor([3, 3, 5]), torch.tensor([[True, True], [True, False], [False, True]]))
    (batch,) = ctx.planned(plan)
    assert batch.index.tolist() == [3, 3, 5]
    assert batch.inputs["image"][1].abs().sum() == 0
    assert batch.inputs["audio"][2].abs().sum() == 0
    assert torch.equal(batch.inputs["audio"][0], batch.inputs["audio"][1])


def test_encoding_a_split_is_in_row_order_and_restores_the_mode() -> None:
    data = tiny_data(2)
    ctx = tiny_run("joint", data=data)[0].context
    ctx.model.train()
    features, labels = ctx.encode("monitor")
    assert torch.equal(labels, data.parts["monitor"].labels)
    assert {m: tuple(h.shape) for m, h in features.items()} == {"audio": (12, 6), "image": (12, 5)}
    assert ctx.model.training


def test_a_branch_trains_aside_and_changes_nothing() -> None:
    ctx = tiny_run("joint")[0].context
    before = [p.detach().clone() for p in ctx.parameters]
    branch = ctx.fork("blend")
    lower = branch.loss("monitor")
    branch.train(3, present=["audio"])
    assert branch.loss("monitor", present=["audio"]) != lower
    assert all(torch.equal(a, b) for a, b in zip(before, ctx.parameters, strict=True))


def test_a_teacher_is_a_frozen_encoder_that_learnt_something() -> None:
    ctx = tiny_run("joint")[0].context
    teacher = ctx.teacher("audio", epochs=2)
    assert not any(p.requires_grad for p in teacher.parameters())
    pairs = zip(teacher.parameters(), ctx.model.parameters_of("audio"), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
