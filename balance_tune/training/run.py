"""One training run: what the loop needs beside what a method may see (validation data, the best epoch, the clock)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from balance_tune.datasets.modality import Statistics
from balance_tune.models.multimodal import ModelSpec, MultimodalModel
from balance_tune.tasks import Objective
from balance_tune.training.context import RunContext
from balance_tune.training.feed import Feed


@dataclass
class Best:
    """The epoch with the best objective on validation, and the weights of that epoch (the earliest on a tie)."""

    objective: Objective
    metrics: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, metrics: dict[str, float], model: MultimodalModel) -> None:
        """Keep this epoch if it beats the best so far."""
        gain = self.objective.gain
        if not self.metrics or gain(metrics[self.objective]) > gain(self.metrics[self.objective]):
            self.metrics = dict(metrics)
            self.weights = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @property
    def value(self) -> float:
        """The objective at the best epoch."""
        return self.metrics[self.objective]


@dataclass
class Run:
    """A context for the method, and what stays outside its reach."""

    context: RunContext
    validation: Feed
    best: Best
    spec: ModelSpec
    method: str
    modulation: Mapping[str, Any]  # the method's settings, its variant included
    stop: Callable[[], bool] = lambda: False
    statistics: Mapping[str, Statistics] | None = None  # of its training rows, where the split is not the store's own
    split_seed: int | None = None  # of that split
    device_seconds: float = 0.0
