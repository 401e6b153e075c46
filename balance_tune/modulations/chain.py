"""Several methods at once, applied in order, each inside its own window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.settings import TrainingSettings
from balance_tune.tasks import Task

REPLACING = ("forward", "backward", "train_step")


class Chain(Modulation):
    """Pipes every hook through `links` in order; at most one of them may replace forward, backward or the step.

    A link that owns the step calls `ctx.hooks`, which are this chain's, so that the other links transform its features,
    losses and gradients; one that does not (`composes = False`) is refused beside links that would transform them. So
    is one that passes twice (`second_pass`) beside one that replaces a pass: its second pass would be another.
    """

    name: ClassVar[str] = ""

    def __init__(self, links: Sequence[Modulation]) -> None:
        self.start, self.end = 0.0, 1.0
        self.links = list(links)
        self._replacing: dict[str, Modulation] = {}
        for hook in REPLACING:
            owners = [m for m in self.links if getattr(type(m), hook) is not getattr(Modulation, hook)]
            if len(owners) > 1:
                names = " and ".join(m.name for m in owners)
                raise UserError(f"at most one method of a chain may replace `{hook}`, but got {names}.")
            if owners:
                self._replacing[hook] = owners[0]
        self.second_pass = any(m.second_pass for m in self.links)  # type: ignore[misc]
        owner = self._replacing.get("train_step")
        if owner is None:
            return
        hooks = () if owner.composes and not owner.second_pass else REPLACING[:2]
        hooks = hooks if owner.composes else (*hooks, "on_losses", "on_gradients")
        for m in self.links:
            clash = [hook for hook in hooks if getattr(type(m), hook) is not getattr(Modulation, hook)]
            if m is not owner and clash:
                raise UserError(f"{owner.name} takes whole steps, in which `{clash[0]}` of {m.name} would not run.")

    def _acting(self, ctx: Context) -> Iterator[Modulation]:
        return (m for m in self.links if m.acts(ctx.epoch, ctx.epochs))

    def _owner(self, hook: str, ctx: Context) -> Modulation | None:
        owner = self._replacing.get(hook)
        return owner if owner is not None and owner.acts(ctx.epoch, ctx.epochs) else None

    def check_task(self, task: Task) -> None:
        for m in self.links:
            m.check_task(task)

    def check_training(self, training: TrainingSettings) -> None:
        for m in self.links:
            m.check_training(training)

    def build(self, model: MultimodalModel) -> None:
        for m in self.links:
            m.build(model)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({m.name: m.modules() for m in self.links if len(m.modules())})

    def parameter_groups(self, training: TrainingSettings) -> list[dict[str, Any]]:
        return [group for m in self.links for group in m.parameter_groups(training)]

    def plan_epoch(self, plan: EpochPlan, ctx: Context) -> EpochPlan:
        for m in self._acting(ctx):
            plan = m.plan_epoch(plan, ctx)
        return plan

    def on_epoch_start(self, ctx: Context) -> None:
        for m in self._acting(ctx):
            m.on_epoch_start(ctx)

    def on_epoch_end(self, ctx: Context) -> None:
        for m in self._acting(ctx):
            m.on_epoch_end(ctx)

    def forward(self, batch: Batch, ctx: Context) -> Output:
        owner = self._owner("forward", ctx)
        return super().forward(batch, ctx) if owner is None else owner.forward(batch, ctx)

    def on_features(self, features: Features, batch: Batch, ctx: Context) -> tuple[Features, Batch]:
        for m in self._acting(ctx):
            features, batch = m.on_features(features, batch, ctx)
        return features, batch

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        for m in self._acting(ctx):
            losses = m.on_losses(losses, output, batch, ctx)
        return losses

    def backward(self, losses: Losses, ctx: Context) -> None:
        owner = self._owner("backward", ctx)
        if owner is None:
            super().backward(losses, ctx)
        else:
            owner.backward(losses, ctx)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m in self._acting(ctx):
            m.on_gradients(output, batch, ctx)

    def observe(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m in self.links:
            m.observe(output, batch, ctx)

    def train_step(self, batch: Batch, ctx: Context) -> Tensor:
        owner = self._owner("train_step", ctx)
        return super().train_step(batch, ctx) if owner is None else owner.train_step(batch, ctx)

    def beyond_step(self) -> str:
        return next((f"{needs}, for {m.name}" for m in self.links if (needs := m.beyond_step())), "")

    def min_epochs(self, epochs: int) -> int:
        return max((m.min_epochs(epochs) for m in self.links), default=0)

    def never_acts(self, epochs: int) -> str | None:
        reasons = [m.never_acts(epochs) for m in self.links]
        return next((r for r in reasons if r), None) if all(reasons) else None

    def state_dict(self) -> dict[str, Any]:
        return {m.name: m.state_dict() for m in self.links}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for m in self.links:
            m.load_state_dict(state[m.name])
