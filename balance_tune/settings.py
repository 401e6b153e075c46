"""How a model is trained, whatever the method: the settings of the optimiser and of the run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balance_tune.errors import UserError
from balance_tune.tunable import check_values, tunable

OGM = "GeWu-Lab/OGM-GE_CVPR2022 README (CREMA-D)"
OURS = "common practice"


@dataclass(frozen=True)
class TrainingSettings:
    """One trial's training recipe; a dataset's `recipe` and the study file override these defaults.

    `precision` is the arithmetic of encoders and fusion (bf16: autocast); scores and losses stay in float32.
    `step_every` is a fraction of the run. `channels_last` lays images out so that convolutions are faster; `compile`
    has torch compile the encoders, which takes up to minutes once a process and pays in long runs on a device.
    `dtype` is that of parameters and data (float64 for exact comparisons).
    """

    epochs: int = tunable(20, low=1, high=1000, source=OURS)
    batch_size: int = tunable(64, low=2, high=4096, log=True, source=OGM)
    optimizer: str = tunable("sgd", choices=("sgd", "adamw", "adam"), source=OGM)
    lr: float = tunable(0.05, low=0.003, high=0.3, log=True, source=OURS)
    momentum: float = tunable(0.9, low=0.0, high=0.99, source=OGM)
    weight_decay: float = tunable(1e-4, low=1e-6, high=1e-1, log=True, source=OGM)
    schedule: str = tunable("cosine", choices=("cosine", "constant", "step"), source=OURS)
    step_every: float = tunable(0.7, low=0.05, high=1.0, source=f"{OGM}: epoch 70 of 100")
    clip_norm: float = tunable(0.0, low=0.0, high=10.0, source="off")
    precision: str = tunable("fp32", choices=("fp32", "bf16"), source="off")
    dtype: str = tunable("float32", choices=("float32", "float64"), source="off")
    channels_last: bool = tunable(True, choices=(True, False), source="faster convolutions")
    compile: bool = tunable(False, choices=(False, True), source="off")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, spec = getattr(self, field.name), field.metadata["tunable"]
            if spec.choices is not None:
                if value not in spec.choices:
                    raise UserError(f"training.{field.name} must be one of {spec.choices}, but got {value!r}.")
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or (spec.kind == "int" and value != int(value)):
                kind = "a whole number" if spec.kind == "int" else "a number"
                raise UserError(f"training.{field.name} must be {kind}, but got {value!r}.")
        for name, bound in {"epochs": 1, "batch_size": 1}.items():
            if getattr(self, name) < bound:
                raise UserError(f"`training.{name} >= {bound}` must hold, but got {getattr(self, name)!r}.")
        if not self.step_every > 0:
            raise UserError(f"`training.step_every > 0` must hold, but got {self.step_every!r}.")
        for name in ("momentum", "weight_decay", "clip_norm", "lr"):
            if getattr(self, name) < 0:
                raise UserError(f"`training.{name} >= 0` must hold, but got {getattr(self, name)!r}.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Return settings from plain values; an unknown name is an error that names the nearest one."""
        check_values("training", [f.name for f in dataclasses.fields(cls)], dict(values))
        return cls(**values)

    def rate(self, epoch: int) -> float:
        """Return the learning rate of 0-based `epoch`; `step` divides by ten after each `step_every` of the run."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        if self.schedule == "step":
            return self.lr * 0.1 ** math.floor((epoch + 1e-9) / (self.step_every * self.epochs))
        return self.lr
