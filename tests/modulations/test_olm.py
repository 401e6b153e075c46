"""OLM against the official code's numbers, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune.modulations.olm import Olm, ratios, scale_gradients
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden

CASES = golden("olm")["cases"]


class Network(nn.Module):
    """The golden cases' network: x = tanh(a(audio)), y = tanh(v(visual)), a head on each and one on both."""

    def __init__(self, weights: dict[str, Any]) -> None:
        super().__init__()
        for name, (i, o) in {"a": (6, 4), "v": (6, 4), "o_x": (4, 3), "o_y": (4, 3), "fc": (8, 3)}.items():
            layer = nn.Linear(i, o, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(weights[f"{name}.weight"]))
                layer.bias.copy_(torch.tensor(weights[f"{name}.bias"]))
            self.add_module(name, layer)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Return the logits (3, B, C): visual, audio, fused."""
        layers = dict(self.named_children())
        x = layers["a"](torch.tensor(batch["audio"]).double().flatten(1)).tanh()
        y = layers["v"](torch.tensor(batch["visual"]).double().flatten(1)).tanh()
        return torch.stack([layers["o_y"](y), layers["o_x"](x), layers["fc"](torch.cat([x, y], 1))])


@pytest.mark.parametrize("case", [c for c in CASES if c["variant"] == "loss_ratio"])
def test_losses_ratios_and_gradients_of_the_scales_are_the_official_ones(case: dict[str, Any]) -> None:
    network, first = Network(case["init"]), torch.ones(3, dtype=torch.float64)
    count = len(case["train"])
    names = case["order"]
    for step in case["steps"]:
        batch = case["train"][step["step"] % count]
        w = torch.tensor(step["weights_before"], dtype=torch.float64)
        logits = network(batch)
        labels = torch.tensor(batch["label"])
        losses, slopes, lengths = scale_gradients(logits.detach(), labels, w)
        assert losses.tolist() == pytest.approx(step["losses"], rel=1e-4)
        if step["epoch"] == 0:
            first = losses
        r = ratios(dict(zip(names, losses, strict=True)), dict(zip(names, first, strict=True)))
        assert [x.item() for x in r.values()] == pytest.approx(step["r"], rel=1e-4)
        n = w[:, None] * lengths
        distance = n - torch.stack(list(r.values()))[:, None] * n.mean(0)
        assert distance.abs().sum().item() == pytest.approx(step["norm_loss"], rel=1e-4)
        slope = slopes + (torch.sign(distance) * lengths).sum(1)
        assert slope.tolist() == pytest.approx(step["weights_grad"], rel=1e-3, abs=1e-5)
        network.zero_grad()
        torch.nn.functional.cross_entropy(
            (w[:, None, None] * logits).flatten(0, 1), labels.repeat(3), reduction="sum"
        ).backward()
        with torch.no_grad():
            for p in network.parameters():
                p -= case["lr_network"] * p.grad


def test_the_scales_of_the_logits_move_and_stay_within_their_bounds() -> None:
    run, method = tiny_run("olm", {"lr_w": 10.0}, epochs=3)
    history = list(train(run, method))
    for name in ("w/audio", "w/image", "w_fused"):
        assert 0.05 <= history[-1][f"modulation/{name}"] <= 20
    assert any(abs(history[-1][f"modulation/w/{m}"] - 1) > 0.01 for m in ("audio", "image"))


def test_rates_looks_at_held_out_samples_and_leaves_the_model_in_training_mode() -> None:
    run, method = tiny_run("olm", {"variant": "rates"}, epochs=3)
    list(train(run, method))
    assert isinstance(method, Olm)
    assert set(method.state_dict()["first"]) == {"train", "monitor"}
    assert run.context.model.training
