"""OGM and OGM-GE against the official code's numbers, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.modulations.ogm import Ogm, ogm_coefficients
from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import run_on, update

ROWS = golden("ogm_coefficients")["rows"]
STEPS = golden("ogm_ge_official_step")["cases"]


def scores(a: float, v: float) -> dict[str, Tensor]:
    return {"audio": torch.tensor(a, dtype=torch.float64), "image": torch.tensor(v, dtype=torch.float64)}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("tanh_alpha_rho", "official_tanh_alpha_rho"),
        ("alpha_tanh_rho_minus_1", "paper2024_1_minus_alpha_tanh_rho_minus_1"),
    ],
)
def test_coefficients_are_the_official_ones(row: dict[str, Any], form: Any, key: str) -> None:
    k = ogm_coefficients(scores(1.0, row["ratio_v"]), row["alpha"], form)
    assert k["audio"].item() == pytest.approx(row[key]["k_a"], abs=1e-7)
    assert k["image"].item() == pytest.approx(row[key]["k_v"], abs=1e-7)


def test_a_tie_of_two_slows_the_first_as_the_official_code_does() -> None:
    k = ogm_coefficients(scores(3.0, 3.0), 0.8)
    assert k["audio"].item() == pytest.approx(1 - torch.tanh(torch.tensor(0.8)).item())
    assert k["image"].item() == 1


def test_three_modalities_follow_the_mean_ratio_and_slow_everyone_ahead() -> None:
    s = {"a": 4.0, "b": 3.0, "c": 1.0}
    k = ogm_coefficients({m: torch.tensor(v, dtype=torch.float64) for m, v in s.items()}, 0.3)
    for m, value in s.items():
        rho = sum(value / other for n, other in s.items() if n != m) / 2
        expected = 1 - torch.tanh(torch.tensor(0.3 * rho, dtype=torch.float64)).item() if rho > 1 else 1.0
        assert k[m].item() == pytest.approx(expected, abs=1e-12)
    assert k["a"] < 1
    assert k["b"] < 1
    assert k["c"] == 1


def test_a_score_that_underflows_gives_a_number() -> None:
    assert all(torch.isfinite(k) for k in ogm_coefficients(scores(0.0, 0.0), 0.8).values())


def official(case: dict[str, Any], method: str, seed: int = 0) -> Any:
    """A run on the official tiny model: its features, and its head recovered from features and unimodal logits."""
    features = {"audio": torch.tensor(case["feat_a"]).double(), "image": torch.tensor(case["feat_v"]).double()}
    labels = torch.tensor(case["labels"])
    classes = len(case["logits"][0])
    settings = {} if method == "joint" else {"alpha": case["alpha"]}
    run = run_on(features, labels, classes, method, seed, modulation=settings, fusion=case["fusion"])
    fusion = run.context.model.fusion
    for m, answers in (("audio", case["uni_logits_a"]), ("image", case["uni_logits_v"])):
        design = torch.cat([features[m], torch.ones(len(labels), 1, dtype=torch.float64)], dim=1)
        solved = torch.linalg.lstsq(design, torch.tensor(answers).double()).solution
        weight, bias = solved[:-1].T, solved[-1]
        with torch.no_grad():
            if case["fusion"] == "concat":
                fusion.head.weight[:, fusion.columns[m]] = weight
                fusion.head.bias.copy_(2 * bias)
            else:
                fusion.heads[m].weight.copy_(weight)
                fusion.heads[m].bias.copy_(bias)
    return run


@pytest.mark.parametrize("case", STEPS)
def test_a_training_step_of_our_loop_scales_what_the_official_step_scales(case: dict[str, Any]) -> None:
    reference, run = official(case, "joint"), official(case, "ogm")
    ctx = reference.context
    inputs = {m: x for m, x in ctx.parts["train"].inputs.items()}
    assert torch.allclose(ctx.model(inputs), torch.tensor(case["logits"]).double(), atol=1e-5)
    plain, changed = update(reference), update(run)
    ours = {"audio": "module.audio_net.conv1.weight", "image": "module.visual_net.conv1.weight"}
    for name, delta in plain.items():
        encoder = name.split(".")[1] if name.startswith("encoders") else None
        expected = case["ogm_scale_per_param"][ours[encoder]] if encoder and name.endswith("weight") else 1.0
        assert torch.allclose(changed[name], expected * delta, rtol=1e-5, atol=1e-9), name
    k = run.context.logged()
    assert k["modulation/k/audio"] == pytest.approx(case["coeff_a"], abs=1e-5)
    assert k["modulation/k/image"] == pytest.approx(case["coeff_v"], abs=1e-5)


@pytest.mark.parametrize("case", STEPS[:1] + STEPS[2:3])
def test_ge_adds_noise_of_the_unscaled_gradients_deviation_to_both_encoders(case: dict[str, Any]) -> None:
    plain = update(official(case, "joint"))
    draws = [update(official(case, "ogm_ge", seed)) for seed in range(150)]
    for m, k in (("audio", case["coeff_a"]), ("image", case["coeff_v"])):
        name = f"encoders.{m}.conv.weight"
        noise = torch.stack([d[name] - k * plain[name] for d in draws]).flatten()
        sigma = plain[name].std() + 1e-8
        assert noise.mean().abs() < 4 * sigma / len(noise) ** 0.5
        assert noise.std() == pytest.approx(sigma.item(), rel=0.06)
        standard = (noise - noise.mean()) / noise.std()
        assert standard.pow(4).mean().item() == pytest.approx(3.0, abs=0.5)  # normal, not uniform
        bias = f"encoders.{m}.conv.bias"
        assert all(torch.allclose(d[bias], plain[bias], atol=1e-12) for d in draws)


def test_ogm_leaves_the_weaker_encoder_alone() -> None:
    plain, run = update(tiny_run("joint", batch_size=22)[0]), tiny_run("ogm", batch_size=22)[0]
    changed, k = update(run), run.context.logged()
    weaker = [m for m in ("audio", "image") if k[f"modulation/k/{m}"] == 1]
    assert len(weaker) == 1
    for name, delta in plain.items():
        same = torch.equal(changed[name], delta)
        assert same or not name.startswith(f"encoders.{weaker[0]}")
    assert any(not torch.equal(changed[name], delta) for name, delta in plain.items())


def test_apply_to_lr_scales_the_update_of_adam_where_scaling_the_gradient_would_cancel() -> None:
    settings = {"end": 1.0, "policy": "encoder"}
    plain = update(tiny_run("joint", optimizer="adam", weight_decay=0.0, batch_size=22)[0])
    run = tiny_run("ogm", {**settings, "apply_to": "lr"}, optimizer="adam", weight_decay=0.0, batch_size=22)[0]
    changed = update(run)
    k = run.context.logged()
    for m in ("audio", "image"):
        for name, delta in plain.items():
            if name.startswith(f"encoders.{m}"):
                assert torch.allclose(changed[name], k[f"modulation/k/{m}"] * delta, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("settings", [{"apply_to": "Lr"}, {"policy": "heads"}, {"form": "tanh"}])
def test_a_word_that_means_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must be one of"):
        Ogm(**settings)
