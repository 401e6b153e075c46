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
