"""ARL against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from balance_tune.modulations.arl import Arl, coefficients
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden
from tests.modulations.one_step import affine_run, update
from tests.modulations.test_dgl import names_of

CASES = golden("arl")["cases"]
LINEAR = [case for case in CASES if case["fusion"] in ("concat", "sum")]


def logits_of(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {m: torch.tensor(case[f"{m}_logits"]).double() for m in ("audio", "visual")}


@pytest.mark.parametrize("case", [c for c in CASES if c["coefficients_T"] is not None], ids=lambda c: c["fusion"])
def test_coefficients_are_those_of_the_official_statements(case: dict[str, Any]) -> None:
    for temperature, name in ((case["T"], "coefficients_T"), (1.0, "coefficients_1")):
        k = coefficients(logits_of(case), temperature)
        assert list(k) == ["audio", "visual"]
        assert torch.stack(list(k.values())).tolist() == pytest.approx(case[name], rel=1e-5)


@pytest.mark.parametrize("which", ["intended", "published"])
@pytest.mark.parametrize("case", LINEAR, ids=lambda case: f"{case['fusion']} {case['gamma']} {case['epoch']}")
def test_gradients_are_those_of_the_official_code(case: dict[str, Any], which: str) -> None:
    warm = case["epoch"] <= case["start"]
    names = names_of(case["fusion"])
    run = affine_run(
        {"audio": case["audio_input"], "visual": case["visual_input"]},
        case["labels"],
        case["classes"],
        "arl",
        {ours: case["parameters"][official] for ours, official in names.items()},
        {"gamma": case["gamma"], "temperature": case["T"], "warmup": 0.1 if warm else 0.0, "coefficients": which},
        fusion=case["fusion"],
        clip_norm=40.0,
        epochs=10,
    )
    changes = update(run)
    official = case["gradients_as_published" if warm or which == "published" else "gradients_with_coefficients"]
    for ours, name in names.items():
        assert torch.allclose(-changes[ours], torch.tensor(official[name]).double(), rtol=1e-4, atol=1e-5), ours


def test_for_three_modalities_the_surest_and_least_needed_one_gets_most() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.1, 0.0, 0.0]])
    k = coefficients({"a": sure, "b": unsure, "c": unsure}, 4.0)
    assert sum(k.values()).item() == pytest.approx(1)
    assert k["b"].item() == pytest.approx(k["c"].item())


def test_answers_of_zero_give_equal_shares() -> None:
    k = coefficients({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, 4.0)
    assert [x.item() for x in k.values()] == pytest.approx([0.5, 0.5])


def test_the_warm_up_ends_after_the_official_epoch() -> None:
    assert [Arl(warmup=0.05).first(100), Arl(warmup=0.0).first(100), Arl(warmup=0.1).first(3)] == [6, 0, 1]
    assert Arl(warmup=0.05).min_epochs(100) == 7


def test_nothing_is_scaled_during_the_warm_up() -> None:
    run, method = tiny_run("arl", {"warmup": 0.5}, epochs=4)
    history = list(train(run, method))
    assert ["modulation/k/audio" in metrics for metrics in history] == [False, False, False, True]
