"""Data Remixing against the official code's numbers, and what it promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.modulations.batch import EpochPlan
from balance_tune.modulations.remix import Remix, assignment
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden
from tests.modulations.one_step import affine_run, load, update

CASES = golden("remix")["cases"]
NAMES = {
    "encoders.audio.layer": "audio_net.f",
    "encoders.visual.layer": "visual_net.f",
    "fusion.head": "head",
}
OWN = {"audio": "head_audio", "visual": "head_video"}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize("case", of_kind("assignment"))
def test_samples_are_divided_as_by_the_official_code(case: dict[str, Any]) -> None:
    own = assignment({m: torch.tensor(case[f"{m}_logits"]) for m in ("audio", "visual")})
    assert own.eq(0).nonzero().flatten().tolist() == case["trained_with_audio_only"]
    assert own.eq(1).nonzero().flatten().tolist() == case["trained_with_visual_only"]


def test_of_three_equally_certain_modalities_the_last_is_trained() -> None:
    same = torch.tensor([[1.0, 2.0, 0.0]])
    assert assignment({"a": same, "b": same, "c": same}).tolist() == [2]
    assert assignment({"a": same, "b": 0 * same, "c": same}).tolist() == [1]


def run_of(case: dict[str, Any], settings: dict[str, Any]) -> Any:
    run = affine_run(
        {"audio": case["audio_input"], "visual": case["visual_input"]},
        case["labels"],
        case["classes"],
        "remix",
        {f"{o}.{k}": case["parameters"][f"{n}.{k}"] for o, n in NAMES.items() for k in ("weight", "bias")},
        settings,
        epochs=2,
    )
    own = {f"{m}.{k}": case["parameters"][f"{n}.{k}"] for m, n in OWN.items() for k in ("weight", "bias")}
    load(run.context.modules, own)
    return run


def compare(run: Any, gradients: dict[str, Any], before: dict[str, Tensor]) -> None:
    parameters = {**dict(run.context.model.named_parameters()), **dict(run.context.modules.named_parameters())}
    for ours, official in {**NAMES, **OWN}.items():
        for kind in ("weight", "bias"):
            gradient = gradients[f"{official}.{kind}"]
            p, start = parameters[f"{ours}.{kind}"], before[f"{ours}.{kind}"]
            change = torch.zeros_like(p) if gradient is None else -torch.tensor(gradient).double()
            assert torch.allclose(p - start, change, rtol=1e-4, atol=1e-6), ours


def weights(run: Any) -> dict[str, Tensor]:
    named = [*run.context.model.named_parameters(), *run.context.modules.named_parameters()]
    return {name: p.detach().clone() for name, p in named}


@pytest.mark.parametrize("case", [c for c in of_kind("warmup") if c["alpha_audio"] == c["beta_visual"]])
def test_the_warm_up_is_the_official_one(case: dict[str, Any]) -> None:
    run = run_of(case, {"weight": case["alpha_audio"], "warmup": 0.5})
    before = weights(run)
    update(run)
    compare(run, case["gradients"], before)


@pytest.mark.parametrize("case", of_kind("epoch"))
def test_batches_of_one_modality_are_trained_as_by_the_official_code(case: dict[str, Any]) -> None:
    run = run_of(case, {"warmup": 0.0})
    ctx = run.context
    start = {n: p.clone() for n, p in weights(run).items()}
    rows = [row for batch in case["batches"] for row in batch["rows"]]
    own = torch.tensor([{"audio": 0, "visual": 1}[b["modality"]] for b in case["batches"] for _ in b["rows"]])
    counts = torch.bincount(own, minlength=2).tolist()
    plan = EpochPlan(
        torch.tensor(rows), torch.nn.functional.one_hot(own, 2).bool(), "features", ((1, counts[1]), (0, counts[0]))
    )
    ctx.settings = replace(ctx.settings, batch_size=case["batch_size"])
    ctx.optimization.set_rate(1.0)
    batches = list(ctx.planned(plan))
    assert [batch.index.tolist() for batch in batches] == [b["rows"] for b in case["batches"]]
    for batch, official in zip(batches, case["batches"], strict=True):
        gamma = case[f"gamma_{official['modality']}"]
        load(ctx.model, {n: start[n].tolist() for n, _ in ctx.model.named_parameters()})
        load(ctx.modules, {n: start[n].tolist() for n, _ in ctx.modules.named_parameters()})
        ctx.modulation.gamma = gamma
        ctx.modulation.train_step(batch, ctx)
        compare(run, official["gradients"], start)


def test_an_epoch_has_each_row_once_and_batches_of_one_modality_the_last_first() -> None:
    run, method = tiny_run("remix", modalities=3, epochs=2)
    ctx = run.context
    plan = method.plan_epoch(ctx.plan(), ctx)
    batches = list(ctx.planned(plan))
    assert sorted(row for batch in batches for row in batch.index.tolist()) == list(range(22))
    groups = [batch.group for batch in batches]
    assert groups == sorted(groups, reverse=True)
    for batch in batches:
        assert batch.present[:, batch.group].all()
        assert batch.present.sum() == len(batch)
        output = ctx.forward(batch)
        for k, h in enumerate(output.features.values()):
            assert bool((h != 0).any()) == (k == batch.group)


def test_the_warm_up_comes_first_and_is_waited_for() -> None:
    run, method = tiny_run("remix", {"warmup": 0.33}, epochs=4)
    assert ["modulation/samples/audio" in metrics for metrics in train(run, method)] == [False, True, True, True]
    assert Remix(warmup=0.16).min_epochs(60) == 11


def test_groups_that_do_not_fit_the_plan_are_an_error() -> None:
    with pytest.raises(ValueError, match="every row of a plan once"):
        EpochPlan(torch.arange(4), groups=((0, 3),)).batches(2)
    batches = EpochPlan(torch.arange(5), groups=((1, 3), (0, 0), (2, 2))).batches(2)
    assert batches == [(1, range(2)), (1, range(2, 3)), (2, range(3, 5))]
