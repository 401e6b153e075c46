"""InfoReg against the official code's numbers, and what it promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.modulations.batch import Batch
from balance_tune.modulations.inforeg import InfoReg, pulls, window_open
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden
from tests.modulations.one_step import affine_run, load

OFFICIAL = golden("inforeg")
HEAD = {  # the settings that reproduce the official code's last version
    "probe": "slice",
    "gap": "sum",
    "trace_of": "first",
    "strength": 0.95,
    "others": 0.1 / 0.95,
    "beta": 1.0,
    "threshold": 0.05,
    "memory": 10,
}


@pytest.mark.parametrize("case", OFFICIAL["window"], ids=lambda case: case["name"])
def test_the_window_is_the_official_one(case: dict[str, Any]) -> None:
    trace = case["trace"]
    for epoch, acts in enumerate(case["acts_005"]):
        assert window_open(trace[:epoch], 0.05, 10) == acts, epoch
        assert window_open(torch.tensor(trace[:epoch]), 0.05) == acts
    for epoch, ratio in enumerate(case["paper_ratio"]):
        if ratio is not None and not math.isclose(ratio, 0.04):
            assert window_open(trace[:epoch], 0.04, 1) == (ratio > 0.04)


@pytest.mark.parametrize("trace", [[0.0], [0.0] * 12, [3.0, 0.0]])
def test_without_information_the_window_is_closed(trace: list[float]) -> None:
    assert not window_open(trace, 0.04, 1)


@pytest.mark.parametrize("case", OFFICIAL["coefficients"], ids=str)
def test_pulls_are_the_official_factors(case: dict[str, float]) -> None:
    scores = torch.tensor([case["score_audio"], case["score_visual"]], dtype=torch.float64)
    found = pulls(scores, torch.tensor([0.95, 0.1], dtype=torch.float64), 1.0)
    assert found.tolist() == pytest.approx([case["beta_audio"], case["beta_visual"]], rel=1e-5)


def test_of_three_modalities_each_is_compared_with_those_behind_it() -> None:
    found = pulls(torch.tensor([0.9, 0.5, 0.3]), torch.ones(3), 0.9)
    expected = [math.exp(0.9 * math.tanh(0.5)), math.exp(0.9 * math.tanh(0.2)), 0.0]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


class Convolution(Encoder):
    """Convolution, BatchNorm, linear layer: the encoder of the golden cases."""

    name = ""

    def __init__(self, shape: tuple[int, ...], features: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, features))
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_three_epochs_are_those_of_the_official_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.modulations.one_step.Affine", Convolution)
    (case,) = [case for case in OFFICIAL["cases"] if case["rev"] == "HEAD"]
    data = [[_inputs(step) for step in epoch] for epoch in case["data"]]
    first, labels = data[0][0]
    run = affine_run(
        {m: x.tolist() for m, x in first.items()}, labels.tolist(), 3, "inforeg", {}, HEAD, epochs=3, lr=case["lr"]
    )
    ctx, names = run.context, _names(case["init"])
    method = ctx.modulation
    assert isinstance(method, InfoReg)
    load(ctx.model, {ours: case["init"][official] for ours, official in names.items()})
    ctx.model.train()
    ctx.optimization.set_rate(case["lr"])
    steps = iter(case["steps"])
    for ctx.epoch, epoch in enumerate(data):
        method.on_epoch_start(ctx)
        for inputs, y in epoch:
            step = next(steps)
            _compare(ctx.model, step["weights"])
            rows = torch.arange(len(y))
            method.train_step(Batch(inputs, y, rows, rows, len(y)), ctx)
            ctx.step += 1
    assert {k: v for k, v in ctx.logged().items() if "pull" in k}.keys() == {
        "modulation/pull/audio",
        "modulation/pull/visual",
    }


def _inputs(step: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    x = {m: torch.tensor(step[m], dtype=torch.float64).view(-1, 1, 4, 4) for m in ("audio", "visual")}
    return x, torch.tensor(step["label"])


def _names(weights: dict[str, Any]) -> dict[str, str]:
    names = {"fusion.head.weight": "module.head.weight", "fusion.head.bias": "module.head.bias"}
    for name in weights:
        m, _, rest = name.removeprefix("module.").partition("_net.")
        if rest:
            names[f"encoders.{m}.layers.{rest}"] = name
    return names


def _compare(model: nn.Module, weights: dict[str, Any]) -> None:
    state = dict(model.named_parameters())
    for ours, official in _names(weights).items():
        if official in weights:
            assert torch.allclose(state[ours], torch.tensor(weights[official]).double(), rtol=1e-4, atol=2e-6), ours


def test_the_first_step_of_an_epoch_is_not_pulled_and_a_closed_window_is_not_either() -> None:
    run, method = tiny_run("inforeg", {"threshold": 1e9}, epochs=2)
    pulled = [metrics["modulation/pull/audio"] for metrics in train(run, method)]
    assert pulled[0] > 0, "the first epoch is inside"
    assert pulled[1] == 0
    assert len(method.state_dict()["traces"]) == 2


@pytest.mark.parametrize("settings", [{"strength": -1.0}, {"memory": 0}, {"gap": "max"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        InfoReg.of(settings)
