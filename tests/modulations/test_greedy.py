"""Greedy against a bridge and a balance kept by hand, and what it promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.greedy import Greedy, learning_speed
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    length,
    mean,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


def excited(
    model: MultimodalModel, sample: dict[str, Tensor], held: int | None, averages: list[list[Tensor]]
) -> tuple[Tensor, list[list[Tensor]]]:
    """Return one sample's logits (C,) and its excitations, exchange by exchange; `held` has the average instead."""
    names, exchanges = model.modalities, list(model.bridge.exchanges)
    x = {m: model.encoders[m].prepare(sample[m]) for m in names}
    for m in names:
        for stage in model.encoders[m].stages[: len(model.encoders[m].stages) - len(exchanges)]:
            x[m] = stage(x[m])
    found = []
    for k, exchange in enumerate(exchanges):
        for m in names:
            stages = model.encoders[m].stages
            x[m] = stages[len(stages) - len(exchanges) + k](x[m])
        means = torch.stack([channel.mean() for m in names for channel in x[m][0]])
        s = torch.stack([(w * means).sum() + b for w, b in zip(exchange.squeeze.weight, exchange.squeeze.bias)])  # noqa: B905
        s = torch.where(s > 0, s, 0 * s)
        found.append([])
        for j, m in enumerate(names):
            layer = exchange.excite[m]
            e = torch.stack([1 / (1 + torch.exp(-(w * s).sum() - b)) for w, b in zip(layer.weight, layer.bias)])  # noqa: B905
            found[-1].append(e.detach())
            e = averages[k][j] if held == j else e
            x[m] = torch.stack([channel * v for channel, v in zip(x[m][0], e, strict=True)])[None]
    return model.fusion({m: model.encoders[m].finish(x[m]) for m in names})[0], found


def speed(weights: list[Tensor], gradients: list[Tensor]) -> float:
    return length(gradients) ** 2 / length(weights) ** 2


@pytest.mark.parametrize("alike", [True, False])
def test_steps_are_those_of_bridged_encoders_of_which_the_greedier_is_held(alike: bool) -> None:
    settings = {"alpha": 0.02, "window": 2, "warmup": 0.0}
    run = whole_batch_run("greedy", settings, data=tiny_data(alike=alike), lr=0.3, epochs=8)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    exchanges = len(model.bridge.exchanges)
    averages: list[list[Any]] = [[0.0, 0.0] for _ in range(exchanges)]
    sums = {(kind, m): 0.0 for kind in ("by", "main") for m in model.modalities}
    held, left, states = None, 0, []
    for step in range(8):
        states.append(held)
        answers, excitations = zip(*(excited(model, row(inputs, i), held, averages) for i in range(22)), strict=True)
        changes = descent(model, mean([cross_entropy(f, y) for f, y in zip(answers, labels, strict=True)]))
        for k in range(exchanges):
            for j in range(2):
                new = mean([e[k][j] for e in excitations])
                averages[k][j] = (averages[k][j] * step + new) / (step + 1)
        weights = dict(model.named_parameters())
        if left == 0:
            for m in model.modalities:
                by = [n for n in weights if n.startswith("bridge") and ("squeeze" in n or m in n.split("."))]
                main = [n for n in weights if n.startswith(f"encoders.{m}.")]
                columns = model.fusion.columns[m]
                own = [t["fusion.head.weight"][:, columns] for t in (weights, changes)]
                sums["by", m] += speed([weights[n] for n in by], [changes[n] for n in by])
                sums["main", m] += speed([*(weights[n] for n in main), own[0]], [*(changes[n] for n in main), own[1]])
            lead = [math.log10(sums["by", m] / sums["main", m]) for m in model.modalities]
            d = lead[0] - lead[1]
            if abs(d) > 0.02:
                held, left = (0 if d > 0 else 1), 2
        else:
            left -= 1
            held = held if left else None
        for n, p in weights.items():
            p.data += 0.3 * changes[n]
        assert_changes(update(run), {n: 0.3 * change for n, change in changes.items()}, tolerance=1e-8)
        run.context.epoch += 1
        logged = run.context.logged()
        assert logged["modulation/d"] == pytest.approx(d, abs=1e-7)
        assert [logged[f"modulation/held/{m}"] for m in model.modalities] == [states[-1] == j for j in range(2)]
    assert states[0] is None
    assert {type(s) for s in states} == {int, type(None)}, "the example must hold somebody, and let go"


@pytest.mark.parametrize("fusion", ["late", "concat"])
def test_with_the_official_objective_each_answer_is_trained_and_the_fused_one_is_not(fusion: str) -> None:
    run = whole_batch_run("greedy", {"objective": "own"}, fusion=fusion, data=tiny_data(alike=True), lr=0.3)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    each = [model.fusion.unimodal_logits(model.encode(row(inputs, i))) for i in range(len(labels))]
    own = [sum(cross_entropy(f[0], y) for f in answers.values()) for answers, y in zip(each, labels, strict=True)]
    assert_changes(update(run), {n: 0.3 * change for n, change in descent(model, mean(own)).items()}, tolerance=1e-8)


def test_the_pace_of_a_modality_counts_the_bias_of_its_own_head() -> None:
    run, _ = tiny_run("greedy", fusion="late")
    biases = run.context.model.fusion.own_biases()
    assert {m: [b.shape for b in bs] for m, bs in biases.items()} == {"audio": [(3,)], "image": [(3,)]}
    assert tiny_run("greedy", fusion="concat")[0].context.model.fusion.own_biases() == {"audio": [], "image": []}


def test_a_held_modality_no_longer_hears_the_other_in_this_step() -> None:
    run, _ = tiny_run("greedy")
    model = run.context.model.train()
    inputs = {m: x.clone().requires_grad_() for m, x in run.context.parts["train"].inputs.items()}
    for held, hears in ((False, True), (True, False)):
        model.bridge.held[0] = held
        (heard,) = torch.autograd.grad(model.encode(inputs)["audio"].sum(), inputs["image"], allow_unused=True)
        assert bool(heard.any()) == hears


def test_evaluation_is_never_held_and_keeps_no_averages() -> None:
    run, _ = tiny_run("greedy")
    model, rows = run.context.model.eval(), run.context.parts["train"].inputs
    free = model.encode(rows)
    model.bridge.held[:] = True
    assert all(torch.equal(h, free[m]) for m, h in model.encode(rows).items())
    assert model.bridge.seen == 0


def test_learning_speed_is_the_gradients_length_for_the_weights() -> None:
    w, g = [torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 2.0])]
    assert learning_speed(w, g).item() == pytest.approx(5 / 25)


def test_nobody_is_held_during_the_warm_up() -> None:
    run, modulation = tiny_run("greedy", {"alpha": 1e-9, "warmup": 0.5}, epochs=4)
    held = [max(metrics[f"modulation/held/{m}"] for m in ("audio", "image")) for metrics in train(run, modulation)]
    assert held[:2] == [0, 0]
    assert held[2] > 0


@pytest.mark.parametrize(("modalities", "reason"), [(3, "exactly two modalities"), (2, "has none")])
def test_what_it_cannot_bridge_is_refused_in_one_line(modalities: int, reason: str) -> None:
    data = tiny_data(modalities)
    if modalities == 2:
        from balance_tune.datasets.base import Modality

        data.manifest.modalities["image"] = Modality((5,), f"{__name__}:Flat")
    with pytest.raises(UserError, match=reason):
        tiny_run("greedy", data=data)


class Flat(torch.nn.Module):
    """Somebody's own encoder, without stages."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.features = torch.nn.Linear(shape[0], 4), 4

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_a_window_of_no_steps_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="window >= 1"):
        Greedy(window=0)
