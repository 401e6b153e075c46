"""DGL against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import affine_run, update

CASES = golden("dgl")["cases"]
OURS = {  # of each fusion, our parameter -> the official one
    "concat": {"fusion.head": "fusion_module.fc_out"},
    "sum": {"fusion.heads.audio": "fusion_module.fc_x", "fusion.heads.visual": "fusion_module.fc_y"},
    "gated": {
        "fusion.projections.audio": "fusion_module.fc_x",
        "fusion.projections.visual": "fusion_module.fc_y",
        "fusion.head": "fusion_module.fc_out",
    },
}


def names_of(fusion: str) -> dict[str, str]:
    modules = {"encoders.audio.layer": "audio_net", "encoders.visual.layer": "visual_net", **OURS[fusion]}
    return {f"{ours}.{kind}": f"{official}.{kind}" for ours, official in modules.items() for kind in ("weight", "bias")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['fusion']} {case['alpha']}")
def test_gradients_are_those_of_the_official_code(case: dict[str, Any]) -> None:
    names = names_of(case["fusion"])
    run = affine_run(
        {"audio": case["audio_input"], "visual": case["visual_input"]},
        case["labels"],
        case["classes"],
        "dgl",
        {ours: case["parameters"][official] for ours, official in names.items()},
        {"alpha": case["alpha"]},
        fusion=case["fusion"],
        clip_norm=0.0 if case["fusion"] == "gated" else 40.0,
    )
    changes = update(run)
    compared = 0
    for ours, official in names.items():
        gradient = case["gradients_before_clip" if case["fusion"] == "gated" else "gradients"][official]
        if gradient is None:  # the official gated fusion leaves its projections at their start; ours learn
            assert bool((changes[ours] != 0).any())
            continue
        assert torch.allclose(-changes[ours], torch.tensor(gradient).double(), rtol=1e-4, atol=1e-5), ours
        compared += 1
    assert compared >= 6


@pytest.mark.parametrize("fusion", ["concat", "film", "transformer", "late"])
def test_the_fused_loss_reaches_no_encoder_and_own_losses_reach_no_head(fusion: str) -> None:
    run, method = tiny_run("dgl", {"alpha": 0.0}, fusion=fusion, weight_decay=0.0)
    for name, change in update(run).items():
        assert bool((change != 0).any()) == name.startswith("fusion."), name
    run, method = tiny_run("dgl", fusion=fusion)
    batch = next(iter(run.context.planned(run.context.plan())))
    output = run.context.forward(batch)
    losses = method.on_losses({}, output, batch, run.context)
    run.context.backward(sum(losses.values()))
    for name, p in run.context.model.named_parameters():
        assert (p.grad is None) == name.startswith("fusion."), name
