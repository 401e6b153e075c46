"""The smallest data and runs that still exercise everything: made on the spot, deterministic, a few milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from balance_tune.datasets.base import Modality
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.modulations.base import Modulation
from balance_tune.replicas import Replicas
from balance_tune.tasks import METRICS, Task
from balance_tune.training.run import Run
from balance_tune.training.setup import assemble

ENCODERS: tuple[Modality, ...] = (
    Modality((1, 8, 6), "cnn", {"channels": [3], "features": 6}),
    Modality((5,), "mlp", {"hidden": 7, "features": 5}),
    Modality((2, 12), "cnn1d", {"channels": [3], "features": 4, "kernel": 3}),
    Modality((4,), "mlp", {"hidden": 6, "features": 6, "layers": 1}),
)
NAMES = ("audio", "image", "motion", "text")


def tiny_data(
    modalities: int = 2,
    *,
    classes: int = 3,
    train: int = 22,
    seed: int = 0,
    alike: bool = False,
    task: Task = "classes",
) -> Data:
    """Return learnable data with so many modalities (2 to 4), the first easier than the rest.

    Args:
        train: training rows; monitor and val have 12 each. 22 leaves a partial last batch at batch size 8.
        task: what the labels are, all made from the class: the class itself; all classes but this one; its number and
            that number squared.
        alike: give every modality the first one's shape and encoder (for methods that need equal widths or stages).
    """
    generator = torch.Generator().manual_seed(seed)
    specs = {NAMES[i]: ENCODERS[0] if alike else ENCODERS[i] for i in range(modalities)}
    centres = {
        m: torch.randn(classes, *spec.shape, generator=generator) / (1 + i) for i, (m, spec) in enumerate(specs.items())
    }
    parts, row = {}, 0
    for name, n in (("train", train), ("monitor", 12), ("val", 12)):
        labels = torch.arange(n) % classes
        inputs = {m: c[labels] + 0.7 * torch.randn(n, *c.shape[1:], generator=generator) for m, c in centres.items()}
        parts[name] = Part(inputs, _labels(labels, classes, task), torch.arange(row, row + n), None)
        row += n
    manifest: Any = SimpleNamespace(
        dataset="tiny",
        task=task,
        modalities=specs,
        statistics={},
        classes=tuple(f"class {c}" for c in range(2 if task == "regression" else classes)),
    )
    return Data(manifest, parts)


def _labels(classes: Tensor, count: int, task: Task) -> Tensor:
    if task == "multilabel":
        return 1 - torch.nn.functional.one_hot(classes, count).float()
    if task == "regression":
        centred = classes.float() - (count - 1) / 2
        return torch.stack([centred, centred.square()], dim=1)
    return classes


def tiny_run(
    method: str = "joint",
    modulation: Mapping[str, Any] | None = None,
    *,
    data: Data | None = None,
    modalities: int = 2,
    fusion: str = "concat",
    variant: str | None = None,
    seed: int = 0,
    replicas: Replicas | None = None,
    device: str = "cpu",
    **training: Any,
) -> tuple[Run, Modulation]:
    """Return a run of three epochs, batch size 8, constant learning rate, in float64; `training` overrides it."""
    data = data or tiny_data(modalities)
    task: Task = getattr(data.manifest, "task", "classes")
    config = {
        "method": method,
        "modulation": dict(modulation or {}),
        "variant": variant,
        "model": {"fusion": fusion},
        "training": {
            "epochs": 3,
            "batch_size": 8,
            "lr": 0.1,
            "schedule": "constant",
            "dtype": "float64",
            **training,
        },
        "objective": f"val/{METRICS[task][0]}",
        "seed": seed,
    }
    return assemble(config, _on(device, data), device=torch.device(device), replicas=replicas)


def _on(device: str, data: Data) -> Data:
    parts = {
        name: Part(
            {m: x.to(device) for m, x in part.inputs.items()},
            part.labels.to(device),
            part.rows,
            part.groups,
            part.present,
        )
        for name, part in data.parts.items()
    }
    return Data(data.manifest, parts)
