"""One training step of our own loop on given features, so that official numbers can be compared through it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.datasets.base import Modality
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.models.encoders import Encoder
from balance_tune.training.loop import train_epoch
from balance_tune.training.run import Run
from balance_tune.training.setup import assemble


class Pointwise(Encoder):
    """A 1x1 convolution that starts as the identity: features are the inputs, and its weight is 4-D."""

    name = ""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], shape[0], 1)
        nn.init.zeros_(self.conv.bias)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(shape[0])[:, :, None, None])
        self.features = shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)


def run_on(features: dict[str, Tensor], labels: Tensor, classes: int, method: str, seed: int = 0, **kw: Any) -> Run:
    """Return a run whose only batch is these features; plain SGD at learning rate 1, in float64."""
    inputs = {m: h.double()[:, :, None, None] for m, h in features.items()}
    part = Part(inputs, labels, torch.arange(len(labels)), None)
    specs = {m: Modality(tuple(x.shape[1:]), f"{__name__}:Pointwise") for m, x in inputs.items()}
    manifest: Any = SimpleNamespace(modalities=specs, classes=tuple(map(str, range(classes))))
    config = {
        "method": method,
        "modulation": kw.pop("modulation", {}),
        "model": {"fusion": kw.pop("fusion", "concat")},
        "training": {
            "epochs": kw.pop("epochs", 1),
            "batch_size": len(labels),
            "lr": 1.0,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "constant",
            "dtype": "float64",
        },
        "objective": "val/accuracy",
        "seed": seed,
    }
    run, _ = assemble(config, Data(manifest, {"train": part, "monitor": part, "val": part}), device=torch.device("cpu"))
    return run


def update(run: Run) -> dict[str, Tensor]:
    """Return parameter name -> change in the run's next epoch (with plain SGD at rate 1: minus the gradient)."""
    before = {n: p.detach().clone() for n, p in run.context.model.named_parameters()}
    train_epoch(run.context, run.context.modulation, lambda: False)
    return {n: p.detach() - before[n] for n, p in run.context.model.named_parameters()}


class Affine(Encoder):
    """One linear layer on vectors."""

    name = ""

    def __init__(self, shape: tuple[int, ...], features: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0], features)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def affine_run(
    inputs: dict[str, Any],
    labels: list[int],
    classes: int,
    method: str,
    weights: dict[str, Any],
    settings: dict[str, Any] | None = None,
    *,
    fusion: str = "concat",
    features: int = 4,
    **training: Any,
) -> Run:
    """Return a run of linear encoders on one batch, with these weights; plain SGD at learning rate 1, in float64.

    Args:
        inputs: {modality: (B, d)}, as nested lists.
        weights: of the model (`encoders.audio.layer.weight`, ...); those that are not named keep their start.
    """
    tensors = {m: torch.tensor(x, dtype=torch.float64) for m, x in inputs.items()}
    part = Part(tensors, torch.tensor(labels), torch.arange(len(labels)), None)
    specs = {m: Modality(tuple(x.shape[1:]), f"{__name__}:Affine", {"features": features}) for m, x in tensors.items()}
    manifest: Any = SimpleNamespace(modalities=specs, classes=tuple(map(str, range(classes))))
    plain = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "dtype": "float64", "lr": 1.0}
    config = {
        "method": method,
        "modulation": settings or {},
        "model": {"fusion": fusion},
        "training": {**plain, "epochs": 1, "batch_size": len(labels), **training},
        "objective": "val/accuracy",
        "seed": 0,
    }
    run, _ = assemble(config, Data(manifest, {"train": part, "monitor": part, "val": part}), device=torch.device("cpu"))
    load(run.context.model, weights)
    return run


def load(module: nn.Module, weights: dict[str, Any]) -> None:
    """Set parameters by name from nested lists."""
    state = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(torch.tensor(value, dtype=torch.float64))
