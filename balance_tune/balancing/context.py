"""What a method may use in a training loop of the user's: a step, and no data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from balance_tune.balancing.optimizer import UserOptimizer
from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import Inputs, MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, EpochPlan
from balance_tune.modulations.context import Branch, SplitName
from balance_tune.modulations.teacher import Teacher
from balance_tune.replicas import Replicas
from balance_tune.settings import TrainingSettings
from balance_tune.training.step import StepContext

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C) and labels to the loss of each sample (B,)."""


class LoopContext(StepContext):
    """Implements `balance_tune.modulations.context.Context` where the user's loop holds data and optimiser.

    Args:
        settings: of these, `batch_size` becomes that of the largest batch so far.
        epochs: of the run, or None where the user has not said it.
        criterion: replaces the task's loss.
    """

    optimization: UserOptimizer

    def __init__(
        self,
        model: MultimodalModel,
        modulation: Modulation,
        modules: nn.ModuleDict,
        optimization: UserOptimizer,
        settings: TrainingSettings,
        *,
        epochs: int | None,
        seed: int,
        device: torch.device,
        criterion: Criterion | None,
    ) -> None:
        super().__init__(
            model, modulation, modules, optimization, settings, replicas=Replicas(), seed=seed, device=device
        )
        self._epochs = epochs  # after `super`, which sets `epochs` from the settings
        self._criterion = criterion
        self._precision: torch.dtype | None = None

    @property
    def epochs(self) -> int:
        """Return the length of the run; raise a `UserError` where the user has not said it."""
        if self._epochs is None:
            raise UserError(f"{self._method} needs the length of the run; pass it to `balance` as `epochs`.")
        return self._epochs

    @epochs.setter
    def epochs(self, epochs: int) -> None:
        self._epochs = epochs

    @property
    def _method(self) -> str:
        return self.modulation.name or "the chain"

    def batch(self, inputs: Inputs, labels: Tensor) -> Batch:
        """Return a batch of B samples; their `index` in the training part is not known here and -1."""
        position = torch.arange(len(labels), device=labels.device)
        if len(labels) > self.settings.batch_size:
            self.settings = replace(self.settings, batch_size=len(labels))
        return Batch(inputs, labels, torch.full_like(position, -1), position, len(labels))

    def remember_autocast(self) -> None:
        """Let the method's own passes of this step run in the arithmetic that is in force now."""
        enabled = torch.is_autocast_enabled(self.device.type)
        self._precision = torch.get_autocast_dtype(self.device.type) if enabled else None

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._precision, enabled=self._precision is not None)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if self._criterion is None:
            return super().loss(logits, batch)
        return self.mean(self._criterion(logits, batch.labels), batch)

    # what a study has and the user's loop has not ---------------------------------------------------------------------
    def _lacking(self, name: str) -> UserError:
        return UserError(f"{self._method} needs `ctx.{name}`, which only a study can give; use it in a study.")

    def size(self, split: SplitName) -> int:
        raise self._lacking("size")

    def rows_at_once(self, split: SplitName) -> int:
        raise self._lacking("rows_at_once")

    def plan(self) -> EpochPlan:
        raise self._lacking("plan")

    def planned(self, plan: EpochPlan) -> Iterator[Batch]:
        raise self._lacking("planned")

    def take(self, split: SplitName, rows: Tensor, present: Tensor | None, position: Tensor, total: int) -> Batch:
        raise self._lacking("take")

    def batches(self, split: SplitName, size: int | None = None) -> Iterator[Batch]:
        raise self._lacking("batches")

    def encode(self, split: SplitName) -> tuple[Features, Tensor]:
        raise self._lacking("encode")

    def fork(self, purpose: str) -> Branch:
        raise self._lacking("fork")

    def teacher(self, modality: str, epochs: int) -> Teacher:
        raise self._lacking("teacher")
