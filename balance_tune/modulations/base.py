"""What a method is: hooks around one training step. Each takes a value and returns the value to continue with.

Every default returns its value unchanged, so `Modulation()` is joint training. A method overrides the least invasive
hook that is enough: transform values (most), replace the backward pass (`backward`), or take the whole step
(`train_step`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.settings import TrainingSettings
from balance_tune.tasks import TASKS, Task
from balance_tune.tunable import check_values, tunables, words

RULES: dict[str, Callable[[float], bool]] = {
    "{} >= 0": lambda x: x >= 0,
    "{} > 0": lambda x: x > 0,
    "{} >= 1": lambda x: x >= 1,
    "0 <= {} <= 1": lambda x: 0 <= x <= 1,
    "0 < {} <= 1": lambda x: 0 < x <= 1,
}
"""What a method may demand of a setting, `{}` being its name."""


@dataclass(frozen=True)
class Neutral:
    """The settings at which a method changes nothing, compared with which method, to what tolerance on weights."""

    settings: Mapping[str, Any]
    reference: str = "joint"
    reference_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tolerance: float = 0.0


@dataclass
class Modulation:
    """Joint training: one loss on the fused logits, nothing balanced.

    L = CE(f, y)

    `start` and `end` bound the window in which a method acts, as fractions of the run: from 0-based epoch
    ceil(start * epochs) to floor(end * epochs), both included. Outside it only `observe` runs.
    """

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "the common baseline"
    cost: ClassVar[str] = ""  # in words, what it adds to joint training's one forward and one backward pass per step
    tasks: ClassVar[tuple[Task, ...]] = TASKS
    needs: ClassVar[str] = "class probabilities"  # what the tasks lack that are not among `tasks`
    twice: ClassVar[bool] = False  # whether it takes derivatives of derivatives, which compiled encoders have not
    second_pass: ClassVar[bool] = False  # whether its step calls `ctx.again`
    composes: ClassVar[bool] = True  # False: its `train_step` does not call `ctx.hooks`, so that it cannot be chained
    reads: ClassVar[str] = ""  # what it needs of the data set between steps, in words; "" where a step's hooks suffice
    windowed: ClassVar[bool] = True  # False: the method changes the architecture and acts in the whole run or never

    start: float = 0.0
    end: float = 1.0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "settled_after" in cls.__dict__:  # its old name: a method that still has it would be pruned too early
            raise UserError(f"`{cls.__qualname__}.settled_after` must be called `min_epochs` (since 0.2); rename it.")

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise UserError(
                f"`0 <= start <= end <= 1` must hold for {self.name}, but got ({self.start=}, {self.end=})."
            )
        if not self.windowed and (self.start, self.end) != (0.0, 1.0):
            raise UserError(
                f"{self.name} changes the architecture and has no window, but got ({self.start=}, {self.end=})."
            )
        for field, choices in words(type(self)).items():
            if getattr(self, field) not in choices:
                listed = ", ".join(map(str, choices))
                raise UserError(f"{self.name}.{field} must be one of {listed}, but got {getattr(self, field)!r}.")
        for field, spec in tunables(self).items():
            value = getattr(self, field)
            if spec.choices is not None and spec.kind == "categorical" and isinstance(spec.default, str | bool):
                if value not in spec.choices:
                    raise UserError(f"{self.name}.{field} must be one of {spec.choices}, but got {value!r}.")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{self.name}.{field} must be a finite number, but got {value!r}.")

    def demand(self, rule: str, *fields: str) -> None:
        """Check hyperparameters against a rule.

        Args:
            rule: one of `RULES`, such as "{} >= 0".
            *fields: names of hyperparameters.

        Raises:
            UserError: one breaks the rule; the line names rule and value.
        """
        for field in fields:
            value = getattr(self, field)
            if not RULES[rule](value):
                raise UserError(f"`{rule.format(field)}` must hold for {self.name}, but got {value!r}.")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Modulation:
        """Return the method with these settings; an unknown name is an error that names the nearest one.

        Args:
            settings: name of a field -> value; the other fields keep their defaults.
        """
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        check_values(f"method {cls.name}", names, dict(settings))
        return cls(**settings)

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the arms this method makes; most make one, which has no name.

        Args:
            modalities: of the dataset, in order.
        """
        return ()

    def check_task(self, task: Task) -> None:
        """Check that the method works on a task.

        Args:
            task: what the labels are.

        Raises:
            UserError: the method can do nothing with labels of this kind.
        """
        if task not in self.tasks:
            raise UserError(
                f"{self.name} needs {self.needs}, and works for {' and '.join(self.tasks)}, but got a task of {task}; "
                "leave it out of `methods`."
            )

    def check_training(self, training: TrainingSettings) -> None:
        """Check the settings of training.

        Args:
            training: the recipe of the run.

        Raises:
            UserError: the method cannot be trained with them.
        """
        if training.compile and self.twice:
            raise UserError(
                f"{self.name} takes second derivatives, which compiled encoders have not; leave `training.compile` off."
            )

    # parts -----------------------------------------------------------------------------------------------------------
    def build(self, model: MultimodalModel) -> None:
        """Change the model where inference needs it too (another head, bridges); called once, before the optimiser.

        Raises a `UserError` where model and method cannot be combined.

        Args:
            model: changed in place; its parameters are made on the CPU and moved later.
        """

    def modules(self) -> nn.ModuleDict:
        """Return parts that only training needs (auxiliary heads); trained beside the model, stored apart from it."""
        return nn.ModuleDict()

    def parameter_groups(self, training: TrainingSettings) -> list[dict[str, Any]]:
        """Return optimiser groups for `modules()` where their settings differ from the model's; none: the same.

        Args:
            training: the recipe of the run.

        Returns:
            Groups as of a torch optimiser, `params` and settings; `lr` is absolute, `lr_factor` relative to the run's.
        """
        return []

    # an epoch --------------------------------------------------------------------------------------------------------
    def plan_epoch(self, plan: EpochPlan, ctx: Context) -> EpochPlan:
        """Return which rows the epoch visits, in which order, with which modalities present.

        Args:
            plan: the shuffled rows of the training part.
            ctx: the run.
        """
        return plan

    def on_epoch_start(self, ctx: Context) -> None:
        """Prepare an epoch of the method's window; `ctx.epoch` is its number.

        Args:
            ctx: the run.
        """

    def on_epoch_end(self, ctx: Context) -> None:
        """Runs after the epoch was evaluated.

        Args:
            ctx: the run.
        """

    # a step ----------------------------------------------------------------------------------------------------------
    def forward(self, batch: Batch, ctx: Context) -> Output:
        """Return the step's forward pass; extra passes with silenced modalities belong here.

        Args:
            batch: B samples of this worker.
            ctx: the run; `ctx.forward(batch)` is the common pass.

        Returns:
            Logits (B, C) and features {modality: (B, d_m)}, with gradient.
        """
        return ctx.forward(batch)

    def on_features(self, features: Features, batch: Batch, ctx: Context) -> tuple[Features, Batch]:
        """Transform features before fusion; a dropped sample is weight 0 in the batch, never a smaller batch.

        Args:
            features: {modality: (B, d_m)}, with gradient.
            batch: the step's samples.
            ctx: the run; its scores are those of these features.

        Returns:
            Features of the same shapes, and the batch, with other weights where samples are dropped.
        """
        return features, batch

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        """Add, remove or reweigh losses; `losses["fused"]` is CE(f, y).

        Args:
            losses: name -> 0-d with gradient.
            output: the forward pass.
            batch: the step's samples, as `on_features` returned them.
            ctx: the run.

        Returns:
            The losses of which `backward` takes the sum; the loss that is logged stays CE(f, y).
        """
        return losses

    def backward(self, losses: Losses, ctx: Context) -> None:
        """Add the gradients of the sum of the losses; override it to combine them in another way.

        Args:
            losses: {name: 0-d}, of the global batch.
            ctx: the run; `ctx.backward` is the common pass.
        """
        each = list(losses.values())
        ctx.backward(sum(each[1:], each[0]) if each else 0)  # not from 0 on: an operation less, there and back

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Change gradients in place; they are already averaged over workers.

        Args:
            output: the forward pass.
            batch: the step's samples.
            ctx: the run; `ctx.model.gradients(m, policy)` are one modality's gradients.
        """

    def observe(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Keep running statistics; runs in every step, also outside the window, before the optimiser's step.

        Args:
            output: the forward pass.
            batch: the step's samples.
            ctx: the run; its gradients are those of the step.
        """

    def train_step(self, batch: Batch, ctx: Context) -> Tensor:
        """Take one whole step.

        Args:
            batch: B samples of this worker.
            ctx: the run; `ctx.default_step` is the common step.

        Returns:
            The loss (0-d, detached).
        """
        return ctx.default_step(self, batch)

    # what others must know -------------------------------------------------------------------------------------------
    def epochs_of_window(self, epochs: int) -> range:
        """Return the 0-based epochs in which the method acts.

        Args:
            epochs: length of the run.
        """
        return range(math.ceil(self.start * epochs - 1e-9), min(math.floor(self.end * epochs + 1e-9), epochs - 1) + 1)

    def acts(self, epoch: int, epochs: int) -> bool:
        """Return whether an epoch lies in the window.

        Args:
            epoch: 0-based.
            epochs: length of the run.
        """
        return epoch in self.epochs_of_window(epochs)

    def never_acts(self, epochs: int) -> str | None:
        """Return why this method would change nothing in a run of so many epochs, or None.

        Args:
            epochs: length of the run.
        """
        if self.epochs_of_window(epochs):
            return None
        return f"its window from {self.start:g} to {self.end:g} holds none of {epochs} epochs"

    def beyond_step(self) -> str:
        """Return what the method needs that a training loop of the user's cannot give, in words; "" for nothing.

        A method that needs only the hooks of a step works in any loop (`balance_tune.balance`).
        """
        if type(self).train_step is not Modulation.train_step:
            return "to take the optimiser's step itself (`train_step`)"
        if type(self).plan_epoch is not Modulation.plan_epoch:
            return "to choose the rows of each epoch (`plan_epoch`)"
        return self.reads

    def min_epochs(self, epochs: int) -> int:
        """Return the number of finished epochs before which a trial must not be pruned (a warm-up, a late event).

        Args:
            epochs: length of the run.
        """
        return 0

    @classmethod
    def neutral(cls) -> Neutral | str:
        """Return the settings that change nothing, or the reason why there are none."""
        return Neutral({})

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside `modules()`: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned.

        Args:
            state: what `state_dict` returned.
        """
