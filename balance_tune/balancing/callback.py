"""A method in PyTorch Lightning (extra `lightning`): a callback that keeps a balancer.

class Lit(lightning.LightningModule):
    def training_step(self, batch):
        inputs, labels = batch
        return self.balancer.forward(inputs, labels).loss

Trainer(callbacks=[BalanceCallback("ogm_ge", alpha=0.8)]).fit(Lit(...))
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from balance_tune.balancing.balancer import Balancer
from balance_tune.balancing.context import Criterion
from balance_tune.balancing.optimizer import check_optimizer
from balance_tune.balancing.prepared import Prepared, prepared
from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise UserError(
        "`balance_tune.balancing.callback` needs PyTorch Lightning, which cannot be imported; run "
        "`pip install 'balance_tune[lightning]'`."
    ) from error


class BalanceCallback(Callback):  # type: ignore[misc]  # Lightning is an extra, and not type-checked here
    """Gives a LightningModule the attribute `balancer`, and goes back through it.

    `training_step` calls `self.balancer.forward(inputs, labels)` and returns a loss of its output; Lightning calls the
    balancer's `backward` and the optimiser's step. What the method logs is logged each epoch, and checkpoints hold the
    method's state.

    Args:
        method: a name of `balance-tune methods`, or a `Modulation`.
        model: the attribute of the LightningModule that holds the model, see `balance_tune.balance`.
        seed: as of `balance_tune.balance`.
        loss: as of `balance_tune.balance`.
        **settings: as of `balance_tune.balance`.

    Raises:
        UserError: (when `fit` begins) the method, the model, or the trainer's settings do not allow it.
    """

    def __init__(
        self,
        method: str | Modulation,
        *,
        model: str = "model",
        seed: int = 0,
        loss: Criterion | None = None,
        **settings: Any,
    ) -> None:
        self._method, self._model, self._seed, self._loss, self._settings = method, model, seed, loss, settings
        self._parts: Prepared | None = None
        self._state: Mapping[str, Any] | None = None
        self._balancer: Balancer | None = None
        self._epoch = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the method into the model, before its optimiser is made and before a checkpoint is loaded."""
        if stage != "fit" or self._parts is not None:
            return
        _check(trainer)
        model = getattr(pl_module, self._model, None)
        if model is None:
            raise UserError(
                f"the model must be an attribute of the LightningModule, but {type(pl_module).__name__} has no "
                f"`{self._model}`; pass its name as `model`."
            )
        self._parts = prepared(model, self._method, self._settings, epochs=_epochs(trainer), seed=self._seed)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the balancer, now that model and optimiser are where they are trained."""
        assert self._parts is not None
        if len(trainer.optimizers) != 1:
            raise UserError(f"`BalanceCallback` needs one optimizer, but got {len(trainer.optimizers)}; make one.")
        check_optimizer(trainer.optimizers[0], getattr(pl_module, self._model))
        balancer = Balancer(self._parts, trainer.optimizers[0], epochs=_epochs(trainer), loss=self._loss)
        if self._state is not None:
            balancer.load_state_dict(self._state)
        self._balancer = pl_module.balancer = balancer
        pl_module.backward = balancer.backward

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the method's epoch."""
        assert self._balancer is not None
        self._epoch.enter_context(self._balancer.epoch(trainer.current_epoch))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the method's epoch, and log what it recorded."""
        assert self._balancer is not None
        self._epoch.close()
        self.log_dict(self._balancer.logged())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the LightningModule its own backward pass again."""
        vars(pl_module).pop("backward", None)

    def state_dict(self) -> dict[str, Any]:
        """Return the balancer's state, for Lightning's checkpoint."""
        return {} if self._balancer is None else self._balancer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state for the balancer that `on_fit_start` makes."""
        self._state = state_dict or None


def _epochs(trainer: Trainer) -> int | None:
    epochs = trainer.max_epochs
    return int(epochs) if epochs is not None and epochs > 0 else None


def _check(trainer: Trainer) -> None:
    """Raise a `UserError` where Lightning changes the loss or the step in a way that a method would not know."""
    if trainer.world_size > 1:
        raise UserError(f"`BalanceCallback` works on one device, but the trainer has {trainer.world_size}; use one.")
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            f"`BalanceCallback` needs a step for every batch, but got accumulate_grad_batches="
            f"{trainer.accumulate_grad_batches}; leave it at 1."
        )
    if str(trainer.precision).startswith("16"):
        raise UserError(
            f"`BalanceCallback` needs a loss that is not scaled, but got precision={trainer.precision}; use "
            "bf16-mixed or 32-true."
        )
