"""A method in a training loop of the user's own.

balancer = balance_tune.balance(model, optimizer, "ogm_ge", alpha=0.8, epochs=20)
for epoch in range(20):
    with balancer.epoch(epoch):
        for inputs, labels in loader:
            optimizer.zero_grad()
            step = balancer.forward(inputs, labels)
            balancer.backward(step.loss)
            optimizer.step()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.balancing.context import Criterion, LoopContext
from balance_tune.balancing.optimizer import UserOptimizer, check_optimizer
from balance_tune.balancing.prepared import Prepared, prepared
from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import Inputs
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Output
from balance_tune.settings import TrainingSettings
from balance_tune.training.step import JOINT


class ForwardPass:
    """The model's output on one batch of B samples, as the method makes it.

    Attributes:
        logits: (B, C), with gradient.
        features: {modality: (B, d_m)}, as the fusion saw them.
        weight: (B,), how much each sample counts, or None where all count alike; `loss` follows it.
    """

    def __init__(self, output: Output, context: LoopContext) -> None:
        self.logits: Tensor = output.logits
        self.features: Features = output.features
        self.weight: Tensor | None = output.batch.weight
        self._output, self._context = output, context

    @property
    def loss(self) -> Tensor:
        """The mean over samples of the task's loss of the logits, or of the `loss` given to `balance`; 0-d."""
        return self._context.loss(self.logits, self._output.batch)


class Balancer:
    """One method acting on one model and its optimiser; made by `balance`.

    Args:
        parts: the model with the method built into it.
        optimizer: the user's; parameters that the method adds join it.
        epochs: of the run, where the method depends on it.
        loss: logits (B, C) and labels to the loss of each sample (B,); default: the loss of the model's task.
    """

    def __init__(
        self,
        parts: Prepared,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int | None = None,
        loss: Criterion | None = None,
    ) -> None:
        model, modulation = parts.model, parts.modulation
        like, name = next(model.parameters()), modulation.name or "the chain"
        lr = float(optimizer.param_groups[0].get("lr", 0.0))
        settings = TrainingSettings(epochs=epochs or 1, batch_size=1, lr=lr)
        modules = modulation.modules().to(like.device, like.dtype)
        self._optimizer = UserOptimizer(
            optimizer, model, modules, modulation.parameter_groups(settings), parts.head, name
        )
        self._context = LoopContext(
            model,
            modulation,
            modules,
            self._optimizer,
            settings,
            epochs=epochs,
            seed=parts.seed,
            device=like.device,
            criterion=loss,
        )
        self._epochs, self._inside = epochs, False
        self._output: Output | None = None

    @contextmanager
    def epoch(self, epoch: int) -> Iterator[None]:
        """Train one epoch inside.

        Args:
            epoch: number of the epoch, from 0.

        Returns:
            A context manager; validation may lie inside or after it.

        Raises:
            UserError: the epoch is none of the run.
        """
        ctx = self._context
        if epoch < 0 or (self._epochs is not None and epoch >= self._epochs):
            raise UserError(f"`0 <= epoch < epochs` must hold, but got ({epoch=}, epochs={self._epochs}).")
        ctx.epoch = epoch
        acts = self._epochs is None or ctx.modulation.acts(epoch, self._epochs)
        ctx.acting = ctx.modulation if acts else JOINT
        ctx.modules.train()
        ctx.acting.on_epoch_start(ctx)
        self._inside = True
        try:
            yield
        finally:
            self._inside, self._output = False, None
        ctx.acting.on_epoch_end(ctx)

    def forward(self, inputs: Inputs, labels: Tensor) -> ForwardPass:
        """Return the model's output on a training batch; for validation call the model itself.

        Args:
            inputs: {modality: (B, *shape)} on the model's device.
            labels: (B,) classes; or (B, C) labels of 0 and 1; or (B, K) numbers to predict.

        Raises:
            UserError: an epoch has not begun, or a modality is missing.
        """
        ctx = self._context
        if not self._inside:
            raise UserError("`balancer.forward` belongs inside `with balancer.epoch(epoch):`, but no epoch has begun.")
        missing = [m for m in ctx.model.modalities if m not in inputs]
        if missing:
            raise UserError(f"inputs must have every modality of the model, but {', '.join(missing)} is missing.")
        ctx.remember_autocast()
        self._output = ctx.acting.forward(ctx.batch(inputs, labels), ctx)
        return ForwardPass(self._output, ctx)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss (0-d) of the last `forward`, as the method changes them.

        They are added to gradients that are there already. The method adds its own losses to `loss`. Clip gradients
        after this, and then call `optimizer.step()`.

        Args:
            loss: 0-d, with a graph to the last `forward`: its `loss`, or a loss of your own on its `logits`.

        Raises:
            UserError: no forward pass is left to go back through.
        """
        if self._output is None:
            raise UserError("`balancer.backward` needs a `balancer.forward` before it, one for each.")
        output, self._output = self._output, None
        earlier = [(p, p.grad) for p in self._optimizer.parameters if p.grad is not None]
        self._optimizer.zero()
        self._optimizer.begin()
        self._context.modulated_backward(self._context.acting, loss, output)
        for p, gradient in earlier:
            p.grad = gradient if p.grad is None else p.grad + gradient
        self._context.step += 1

    def logged(self) -> dict[str, float]:
        """Return the means of what the method logged since the last call: `modulation/<name>/<modality>` -> number."""
        return self._context.logged()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the model's and the optimiser's state."""
        ctx = self._context
        return {"step": ctx.step, "modules": ctx.modules.state_dict(), "modulation": ctx.modulation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned.

        Args:
            state: what `state_dict` returned.
        """
        self._context.step = state["step"]
        self._context.modulation.load_state_dict(state["modulation"])
        self._context.modules.load_state_dict(state["modules"])


def balance(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    method: str | Modulation,
    *,
    epochs: int | None = None,
    seed: int = 0,
    loss: Criterion | None = None,
    **settings: Any,
) -> Balancer:
    """Return a balancer that applies a method in a training loop of yours (see the top of this module).

    Args:
        model: a `MultimodalModel`, or a module of your own with the members of `OwnModel`.
        optimizer: over all trained parameters of the model; parameters that the method adds join it.
        method: a name of `balance-tune methods`, or a `Modulation`.
        epochs: of the run; needed by methods with a window or a schedule.
        seed: of the method's random numbers and of the start of its own parts.
        loss: logits (B, C) and labels to the loss of each sample (B,); default: the loss of the model's task.
        settings: the method's hyperparameters.

    Raises:
        UserError: the method needs more than the hooks of a step, or it cannot be combined with this model, optimiser
            or settings; one line says why.
    """
    check_optimizer(optimizer, model)
    return Balancer(prepared(model, method, settings, epochs=epochs, seed=seed), optimizer, epochs=epochs, loss=loss)
