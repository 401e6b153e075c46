"""MLB against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.mlb import Mlb, mlb_coefficients
from balance_tune.modulations.scores import true_class_probability
from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import update

OFFICIAL = golden("mlb")


def _logits(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    rows = case["logits"] if "logits" in case else [case["logits_0"], case["logits_1"]]
    return {f"m{i}": torch.tensor(r).double() for i, r in enumerate(rows)}


def _official_cases() -> list[dict[str, Any]]:
    """The two-modality cases store logits once per gap; the later ones of the same gap share them."""
    cases, last = [], {}
    for case in OFFICIAL["cases"]:
        if "logits_0" in case:
            last[tuple(case["gap"])] = {k: case[k] for k in ("labels", "logits_0", "logits_1")}
        cases.append({**last[tuple(case["gap"])], **case, "k": [case["k_0"], case["k_1"]]})
    return cases + OFFICIAL["cases_3_modalities"]


@pytest.mark.parametrize("case", _official_cases())
def test_coefficients_are_the_official_ones(case: dict[str, Any]) -> None:
    labels = torch.tensor(case["labels"])
    scores = {m: true_class_probability(f, labels).mean() for m, f in _logits(case).items()}
    beta = case["beta_max"] if case["tanh_mode"] else 2
    k = mlb_coefficients(scores, case["alpha"], beta)
    assert [v.item() for v in k.values()] == pytest.approx(case["k"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_a_step_scales_encoders_own_heads_and_fusion_shares_and_nothing_else(modalities: int, fusion: str) -> None:
    settings = {"modalities": modalities, "fusion": fusion, "batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}
    plain, run = update(tiny_run("multi_loss", **settings)[0]), tiny_run("mlb", {"alpha": 50.0}, **settings)[0]
    changed, logged = update(run), run.context.logged()
    k = {m: logged[f"modulation/k/{m}"] for m in run.context.model.modalities}
    assert any(abs(v - 1) > 0.05 for v in k.values())
    for name, delta in plain.items():
        if name.startswith("encoders"):
            expected = k[name.split(".")[1]] * delta
        elif name.endswith("bias"):
            expected = delta
        else:
            expected = torch.zeros_like(delta)
            for m, slices in run.context.model.fusion.slices().items():
                for parameter, columns in slices:
                    if parameter is dict(run.context.model.named_parameters())[name]:
                        expected[:, columns] = k[m] * delta[:, columns]
        assert torch.allclose(changed[name], expected, rtol=1e-5, atol=1e-10), name


def test_the_modality_behind_is_sped_up_to_beta_max_and_the_one_ahead_slowed() -> None:
    k = mlb_coefficients({"ahead": torch.tensor(0.99), "behind": torch.tensor(0.01)}, alpha=6.0, beta_max=10.0)
    assert k["behind"].item() == pytest.approx(10.0)
    assert k["ahead"].item() == pytest.approx(1 + torch.tanh(torch.tensor(6.0 * (0.01 / 0.99 - 1))).item(), abs=1e-6)


def test_it_phases_itself_out_when_all_are_sure() -> None:
    k = mlb_coefficients({"a": torch.tensor(0.999), "b": torch.tensor(0.998)}, alpha=1.0, beta_max=10.0)
    assert all(abs(v.item() - 1) < 0.01 for v in k.values())


def test_the_heads_are_for_training_only() -> None:
    joint, run = tiny_run("joint")[0], tiny_run("mlb")[0]
    assert set(joint.context.model.state_dict()) == set(run.context.model.state_dict())
    assert len(run.context.parameters) > len(joint.context.parameters)


def test_beta_max_below_one_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="beta_max >= 1"):
        Mlb(beta_max=0.5)
