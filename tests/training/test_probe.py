"""What the linear probe promises."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Concat
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.checkpoint import save_best
from balance_tune.training.loop import train
from balance_tune.training.probe import linear_probe


class Identity(Encoder):
    name = ""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def made_model() -> MultimodalModel:
    encoders = {"signal": Identity(2), "noise": Identity(3)}
    return MultimodalModel(encoders, Concat({"signal": 2, "noise": 3}, 2))


def made_data(n: int = 200) -> Data:
    """One modality that separates two classes exactly, and one that knows nothing."""
    generator = torch.Generator().manual_seed(0)

    def part() -> Part:
        labels = torch.randint(2, (n,), generator=generator)
        signal = torch.randn(n, 2, generator=generator)
        signal[:, 0] = (2.0 * labels - 1) * (0.5 + signal[:, 0].abs())
        inputs = {"signal": signal, "noise": torch.randn(n, 3, generator=generator)}
        return Part(inputs, labels, torch.arange(n), None)

    manifest: Any = SimpleNamespace()
    return Data(manifest, {"train": part(), "val": part()})


def test_it_finds_what_the_features_know_together_and_alone() -> None:
    found = linear_probe(made_model(), made_data())
    assert found["probe/accuracy"] > 0.98
    assert found["probe/accuracy/signal"] > 0.98
    assert abs(found["probe/accuracy/noise"] - 0.5) < 0.12
    assert found["probe/slice_accuracy/signal"] > 0.98
    assert set(found) == {
        "probe/accuracy",
        *(f"probe/{kind}/{m}" for kind in ("accuracy", "slice_accuracy") for m in ("signal", "noise")),
    }


def test_its_heads_are_those_that_a_long_plain_descent_finds() -> None:
    data, model = made_data(60), made_model()
    decay = 0.05
    x = data.parts["train"].inputs["noise"].double()
    mean, sd = x.mean(0), x.std(0, unbiased=False)
    w, b = (torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((2, 3), (2,)))
    for _ in range(3000):
        logits = (x - mean) / sd @ w.T + b
        loss = nn.functional.cross_entropy(logits, data.parts["train"].labels) + decay / 2 * (w * w).sum()
        grads = torch.autograd.grad(loss, [w, b])
        with torch.no_grad():
            w -= 0.5 * grads[0]
            b -= 0.5 * grads[1]
    held_out = data.parts["val"]
    logits = (held_out.inputs["noise"].double() - mean) / sd @ w.T + b
    expected = (logits.argmax(1) == held_out.labels).double().mean().item()
    assert linear_probe(model, data, weight_decay=decay)["probe/accuracy/noise"] == pytest.approx(expected)


def test_it_reads_neither_monitor_nor_test_and_changes_neither_model_nor_random_state() -> None:
    run, _ = tiny_run("joint", dtype="float32")
    data = tiny_data()
    parts = {name: data.parts[name] for name in ("train", "val")}
    model = run.context.model.train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    first = linear_probe(model, Data(data.manifest, parts))
    assert first == linear_probe(model, Data(data.manifest, parts))
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("method", "variant"), [("joint", None), ("unimodal", "image"), ("mmcosine", None)])
def test_any_finished_trial_can_be_probed(method: str, variant: str | None, tmp_path: Path) -> None:
    run, modulation = tiny_run(method, variant=variant, dtype="float32")
    list(train(run, modulation))
    save_best(run, tmp_path)
    found = linear_probe(tmp_path, tiny_data())
    assert all(0 <= value <= 1 for value in found.values())
    assert {name.rsplit("/", 1)[1] for name in found if name.startswith("probe/accuracy/")} == set(
        run.context.model.modalities
    )


def test_a_folder_without_a_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a best checkpoint must be in"):
        linear_probe(tmp_path, tiny_data())
