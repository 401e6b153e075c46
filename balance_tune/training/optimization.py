"""The optimiser's step: gradients averaged over workers, clipped, and updates scaled where a method asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.models.multimodal import MultimodalModel
from balance_tune.private_torch import eager_step, spare_the_compiler
from balance_tune.replicas import Replicas
from balance_tune.settings import TrainingSettings
from balance_tune.training.sgd import Sgd


class Optimization:
    """One torch optimiser over the model and the method's training-only modules.

    Args:
        own_groups: optimiser groups for some parameters of `modules` with settings of their own; the learning rate is
            absolute as `lr`, or a factor on the run's as `lr_factor`. The other parameters join the model's group.
    """

    def __init__(
        self,
        model: MultimodalModel,
        modules: nn.ModuleDict,
        own_groups: list[dict[str, Any]],
        settings: TrainingSettings,
        replicas: Replicas,
    ) -> None:
        self.settings, self.replicas = settings, replicas
        grouped = {id(p) for group in own_groups for p in group["params"]}
        main = [p for p in [*model.parameters(), *modules.parameters()] if p.requires_grad and id(p) not in grouped]
        self.parameters: list[nn.Parameter] = [*main, *(p for group in own_groups for p in group["params"])]
        groups = [{"params": main, "lr_factor": 1.0}, *({"lr_factor": 1.0, **g} for g in own_groups)]
        for group in groups[1:]:
            if "lr" in group:
                group["lr_factor"] = group["lr"] / settings.lr if settings.lr else 0.0
        self.torch = _optimizer(groups, settings, self.parameters)
        self._update = self.torch.update if isinstance(self.torch, Sgd) else eager_step(self.torch)
        self._averaged = False
        self._laid_out = [p for p in self.parameters if not p.is_contiguous()]  # images last in channels
        self._scaled: list[tuple[list[nn.Parameter], Tensor | float]] = []

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every group (times the group's own factor)."""
        for group in self.torch.param_groups:
            group["lr"] = rate * group["lr_factor"]

    def zero(self) -> None:
        """Remove all gradients."""
        for p in self.parameters:
            p.grad = None
        self._averaged = False

    def average(self) -> None:
        """Average gradients over workers, once per step."""
        if not self._averaged:
            self.replicas.average_gradients(self.parameters)
            self._averaged = True

    def scale(self, parameters: list[nn.Parameter], factor: Tensor | float) -> None:
        """Multiply these parameters' learning rate by `factor` in the next step only."""
        self._scaled.append((parameters, factor))

    def step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        """Average, clip and update; with `only`, the other parameters stay as they are."""
        self.average()
        if only is not None:
            chosen = {id(p) for p in only}
            for p in self.parameters:
                if id(p) not in chosen:
                    p.grad = None
        if self.settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        for p in self._laid_out:  # torch's fused optimisers take gradients of another layout for the parameter's own
            if p.grad is not None and p.grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(p.grad)
        before = [[p.detach().clone() for p in parameters] for parameters, _ in self._scaled]
        self._update()
        with torch.no_grad():
            # p_old + k (p_new - p_old) is a learning rate times k for SGD, Adam and AdamW alike, without a sync.
            for (parameters, factor), old in zip(self._scaled, before, strict=True):
                for p, p_old in zip(parameters, old, strict=True):
                    p.copy_(torch.lerp(p_old, p, factor.to(p.dtype) if isinstance(factor, Tensor) else factor))
        self._scaled = []
        self.zero()


def _optimizer(
    groups: list[dict[str, Any]], settings: TrainingSettings, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    spare_the_compiler()
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    common["fused"] = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if settings.optimizer == "sgd":
        return Sgd(groups, momentum=settings.momentum, **common)
    return (torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam)(groups, **common)
