"""G-Blending against copies trained by hand, and what it promises."""

from __future__ import annotations

import copy

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.g_blending import GBlending, blending_weights
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    mean,
    mean_loss,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


@pytest.mark.parametrize(("modalities", "fusion"), [(2, "concat"), (3, "sum")])
def test_a_step_blends_by_what_copies_trained_alone_gained_and_overfitted(modalities: int, fusion: str) -> None:
    run = whole_batch_run("g_blending", {"super_epoch": 0.5}, modalities=modalities, fusion=fusion, epochs=4, lr=0.3)
    model, heads = copy_of(run)
    train_rows, monitor_rows = rows_of(run), rows_of(run, "monitor")
    raw = {}
    for k in ("fused", *model.modalities):
        present = model.modalities if k == "fused" else (k,)
        branch = copy.deepcopy(model)
        before = [mean_loss(branch, rows, present).item() for rows in (train_rows, monitor_rows)]
        for _ in range(2):  # a super-epoch: half of four epochs, each one step
            for (_, p), d in zip(
                branch.named_parameters(), descent(branch, mean_loss(branch, train_rows, present)).values(), strict=True
            ):
                p.data += 0.3 * d
        after = [mean_loss(branch, rows, present).item() for rows in (train_rows, monitor_rows)]
        overfitting = (after[1] - after[0]) - (before[1] - before[0])
        raw[k] = abs(before[1] - after[1]) / overfitting**2
    weights = {k: v / sum(raw.values()) for k, v in raw.items()}
    inputs, labels = train_rows
    loss = weights["fused"] * mean_loss(model, train_rows)
    for m in model.modalities:
        answers = [heads[m](model.encode(row(inputs, i))[m])[0] for i in range(len(labels))]
        loss = loss + weights[m] * mean([cross_entropy(f, y) for f, y in zip(answers, labels, strict=True)])
    assert_changes(update(run), {n: 0.3 * d for n, d in descent(model, loss).items()}, tolerance=1e-8)
    logged = run.context.logged()
    found = {m: logged[f"modulation/blend/{m}"] for m in model.modalities}
    assert {"fused": logged["modulation/blend_fused"], **found} == pytest.approx(weights)


def test_weights_grow_with_the_gain_and_fall_with_the_square_of_overfitting_and_add_up_to_one() -> None:
    before = {"a": (1.0, 1.0), "b": (1.0, 1.0), "c": (1.0, 1.0)}
    after = {"a": (0.4, 0.6), "b": (0.2, 0.6), "c": (0.7, 0.9)}  # gains .4 .4 .1, overfitting .2 .4 .2
    w = blending_weights(before, after)
    assert sum(w.values()) == pytest.approx(1)
    assert w["a"] == pytest.approx(4 * w["b"])
    assert w["a"] == pytest.approx(4 * w["c"])


def test_a_branch_that_did_not_overfit_at_all_does_not_divide_by_zero() -> None:
    same = {"a": (1.0, 1.0), "b": (1.0, 1.0)}
    assert blending_weights(same, {"a": (0.5, 0.5), "b": (0.5, 0.9)})["a"] == pytest.approx(1, abs=1e-5)
    assert blending_weights(same, same) == {"a": 0.5, "b": 0.5}


def test_weights_are_measured_once_a_super_epoch_and_kept_in_between() -> None:
    run, modulation = tiny_run("g_blending", {"super_epoch": 0.5}, epochs=4)
    blends = [metrics["modulation/blend/audio"] for metrics in train(run, modulation)]
    assert blends[0] == blends[1] != blends[2] == blends[3]
    assert GBlending(super_epoch=1.0).every(20) == 20
    assert GBlending().every(30) == 10


def test_measuring_changes_nothing_but_the_weights() -> None:
    run, modulation = tiny_run("g_blending")
    before = [p.detach().clone() for p in run.context.parameters]
    modulation.measure(run.context)
    assert all(map(torch.equal, before, run.context.parameters))
    assert all(p.grad is None for p in run.context.parameters)


def test_a_super_epoch_of_nothing_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="0 < super_epoch <= 1"):
        GBlending(super_epoch=0.0)
