"""Diagnosing & Re-learning against the official code's numbers, and what it promises."""

from __future__ import annotations

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.relearning import Relearning, reinit_weight
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden

OFFICIAL = golden("dr")
CASE = OFFICIAL["cases"][0]


@pytest.mark.parametrize("case", OFFICIAL["weight_cases"])
def test_the_weight_is_the_official_one(case: dict[str, float]) -> None:
    w = reinit_weight(torch.tensor(0.2, dtype=torch.float64) + case["gap"], torch.tensor(0.2).double(), case["lam"])
    assert w.item() == pytest.approx(case["w"], abs=1e-7)
    assert reinit_weight(torch.tensor(0.5), torch.tensor(0.5) + case["gap"], case["lam"]).item() == pytest.approx(
        case["w"], abs=1e-5
    )


def test_encoder_parameters_go_back_by_the_official_amount_and_buffers_and_head_stay() -> None:
    weights = {"audio_net": CASE["weight_audio"], "visual_net": CASE["weight_visual"]}
    for name, before in CASE["reinit_before"].items():
        initial, after = torch.tensor(CASE["reinit_init"][name]), torch.tensor(CASE["reinit_after"][name])
        buffer = "running" in name or "num_batches" in name
        if name.startswith("head") or buffer:
            assert torch.equal(after, torch.tensor(before))
        else:
            w = torch.tensor(weights[name.split(".")[0]])
            assert torch.allclose(torch.tensor(before).lerp(initial, w), after, atol=1e-6)


def test_an_event_moves_every_encoder_parameter_and_only_those_towards_its_beginning() -> None:
    settings = {"lam": 3.0, "interval": 0.25, "count": 1}
    reference, _ = tiny_run("joint", epochs=8)
    run, modulation = tiny_run("relearning", settings, epochs=8)
    initial = {n: p.detach().clone() for n, p in run.context.model.named_parameters()}
    steps, plain = train(run, modulation), train(reference, reference.context.modulation)
    for _ in range(2):  # epochs 0 and 1 are joint training
        next(steps)
        next(plain)
    assert all(map(torch.equal, run.context.parameters, reference.context.parameters))
    metrics = next(steps)
    next(plain)
    for (name, p), q in zip(run.context.model.named_parameters(), reference.context.parameters, strict=True):
        if name.startswith("encoders"):
            w = metrics[f"modulation/reinit/{name.split('.')[1]}"]
            assert torch.allclose(p, q.lerp(initial[name], w), atol=1e-6), name
        else:
            assert torch.equal(p, q), name


def test_the_default_acts_in_a_run_of_twenty_epochs_and_never_after_the_last_one() -> None:
    assert Relearning().events(20) == [4, 8, 12]
    assert Relearning().events(90) == [20, 40, 60]
    assert all(e < 5 for e in Relearning(interval=0.4, count=4).events(6))
    assert "no event" in (Relearning(interval=0.4).never_acts(2) or "")


def test_a_trial_is_judged_only_after_the_first_event_is_repaired() -> None:
    method = Relearning()
    assert method.events(20)[0] + 1 < method.min_epochs(20) < method.events(20)[1] + 1


def test_a_count_below_one_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="count >= 1"):
        Relearning(count=0)
