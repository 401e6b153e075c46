"""What training one modality alone promises."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.modulations.unimodal import Unimodal
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.checkpoint import load_best, save_best
from balance_tune.training.evaluation import evaluate
from balance_tune.training.loop import train

PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


def test_there_is_an_arm_for_every_modality() -> None:
    assert Unimodal.variants(["audio", "image", "text"]) == ("audio", "image", "text")


@pytest.mark.parametrize("fusion", ["concat", "sum", "film"])
def test_three_steps_equal_the_slow_reference_whatever_the_fusion(fusion: str) -> None:
    run, method = tiny_run("unimodal", variant="image", fusion=fusion, **PLAIN_SGD)
    model = run.context.model
    encoder, part = copy.deepcopy(model.encoders["image"]), run.context.parts["train"]
    weight, bias = (p.detach().clone().requires_grad_() for p in model.fusion.parameters())
    list(train(run, method))
    for _ in range(3):
        logits = encoder(part.inputs["image"]) @ weight.T + bias
        parameters = [*encoder.parameters(), weight, bias]
        grads = torch.autograd.grad(F.cross_entropy(logits, part.labels), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, grads, strict=True):
                p -= 0.1 * g
    for p, expected in zip(model.parameters(), [*encoder.parameters(), weight, bias], strict=True):
        assert torch.allclose(p, expected, rtol=1e-9, atol=1e-12)


def test_the_encoder_starts_where_it_starts_in_joint_training() -> None:
    joint, run = tiny_run("joint")[0], tiny_run("unimodal", variant="image")[0]
    for p, q in zip(joint.context.model.encoders["image"].parameters(), run.context.model.parameters(), strict=False):
        assert torch.equal(p, q)


def test_the_other_modalities_are_gone_from_the_model_and_the_metrics() -> None:
    run, method = tiny_run("unimodal", variant="audio", modalities=3)
    metrics = list(train(run, method))[-1]
    assert run.context.model.modalities == ("audio",)
    assert {name for name in metrics if name.startswith("val/accuracy")} == {"val/accuracy", "val/accuracy/audio"}
    assert metrics["val/accuracy"] == metrics["val/accuracy/audio"]


def test_its_checkpoint_loads_as_the_cut_down_model(tmp_path: Path) -> None:
    run, method = tiny_run("unimodal", variant="image", dtype="float32")
    list(train(run, method))
    save_best(run, tmp_path)
    model = load_best(tmp_path)
    assert model.modalities == ("image",)
    assert evaluate(model, run.validation)["val/accuracy"] == pytest.approx(run.best.metrics["val/accuracy"])


def test_a_modality_that_is_not_there_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(UserError, match="did you mean `audio`"):
        tiny_run("unimodal", variant="audoi")
