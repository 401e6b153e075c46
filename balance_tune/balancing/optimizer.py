"""The user's own optimiser, as a step needs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel

LINEAR: tuple[type[torch.optim.Optimizer], ...] = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Muon,
)
"""Optimisers whose update is proportional to the learning rate, so that a part of an update is a part of a rate."""


def check_optimizer(optimizer: object, model: nn.Module) -> None:
    """Raise a `UserError` unless this is torch's kind of optimiser over all parameters of a model that are trained."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"the optimizer must be a torch.optim.Optimizer, but got a {type(optimizer).__name__}.")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UserError("LBFGS computes a loss several times in a step, which no method allows; use another optimizer.")
    present = {id(p) for group in optimizer.param_groups for p in group["params"]}
    absent = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in present]
    if absent:
        raise UserError(
            f"the optimizer must hold every trained parameter of the model, but {len(absent)} are not in it, "
            f"`{absent[0]}` first; add them, or freeze them by `requires_grad_(False)`."
        )


class UserOptimizer:
    """Implements `balance_tune.training.step.Updates` for an optimiser that the user steps.

    Args:
        head: a parameter of the model's head; parameters that the method adds join its group.
        own_groups: the method's parameters with settings of their own; `lr` is absolute, `lr_factor` relative.

    Attributes:
        parameters: the model's parameters that are trained, then the method's.
    """

    def __init__(
        self,
        torch_optimizer: torch.optim.Optimizer,
        model: MultimodalModel,
        modules: nn.ModuleDict,
        own_groups: list[dict[str, Any]],
        head: nn.Parameter,
        method: str,
    ) -> None:
        self.torch, self.method = torch_optimizer, method
        grouped = {id(p) for group in own_groups for p in group["params"]}
        joint = [p for p in [*model.parameters(), *modules.parameters()] if p.requires_grad and id(p) not in grouped]
        self.parameters: list[nn.Parameter] = [*joint, *(p for group in own_groups for p in group["params"])]
        self._scaled: list[tuple[list[nn.Parameter], Tensor | float, list[Tensor]]] = []
        self._pending = False
        present = {id(p) for group in torch_optimizer.param_groups for p in group["params"]}
        self._add([p for p in joint if id(p) not in present], own_groups, head)
        torch_optimizer.register_step_post_hook(self._after_step)

    def _add(self, joining: list[nn.Parameter], own_groups: list[dict[str, Any]], head: nn.Parameter) -> None:
        if (joining or own_groups) and isinstance(self.torch, torch.optim.Adagrad):
            raise UserError(
                f"{self.method} adds parameters, for which Adagrad would have no state; use another optimizer."
            )
        group = next(g for g in self.torch.param_groups if any(p is head for p in g["params"]))
        if own_groups and "initial_lr" in group:
            raise UserError(
                f"{self.method} has parameters with a learning rate of their own, but the optimizer already has a "
                "scheduler; call `balance` before the scheduler is made."
            )
        group["params"] += joining  # in the same group: a scheduler that exists already counts the groups
        for new in own_groups:
            settings = {name: value for name, value in {**group, **new}.items() if name != "lr_factor"}
            if "lr" not in new:
                settings["lr"] = group["lr"] * new.get("lr_factor", 1.0)
            self.torch.add_param_group(settings)

    def average(self) -> None:
        """Nothing to average: there is one worker."""

    def zero(self) -> None:
        """Remove all gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        """Raise: the user's loop makes the step."""
        raise UserError(f"{self.method} needs to take the optimiser's step itself; use it in a study.")

    def begin(self) -> None:
        """Begin a backward pass: `scale` then belongs to the optimiser's step that follows it."""
        self._pending = bool(self._scaled)

    def scale(self, parameters: list[nn.Parameter], factor: Tensor | float) -> None:
        """Multiply these parameters' learning rate by `factor` in the next step only.

        Raises:
            UserError: a part of this optimiser's update is no part of its learning rate, or gradients are accumulated.
        """
        if not isinstance(self.torch, LINEAR):
            names = ", ".join(cls.__name__ for cls in LINEAR)
            raise UserError(
                f"{self.method} scales learning rates, which works for {names}, but got "
                f"{type(self.torch).__name__}; use one of them."
            )
        if self._pending:
            raise UserError(
                f"{self.method} scales the learning rate of each step; call `optimizer.step()` after every "
                "`balancer.backward`."
            )
        self._scaled.append((parameters, factor, [p.detach().clone() for p in parameters]))

    @torch.no_grad()
    def _after_step(self, *_: object) -> None:
        # p_old + k (p_new - p_old) is a learning rate times k, see `LINEAR`
        for parameters, factor, before in self._scaled:
            for p, old in zip(parameters, before, strict=True):
                p.copy_(torch.lerp(old, p, factor.to(p.dtype) if isinstance(factor, Tensor) else factor))
        self._scaled = []
