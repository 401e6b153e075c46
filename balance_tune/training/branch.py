"""Extra training on the side: copies of a model trained alone, and unimodal teachers, on the trial's own clock."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Concat
from balance_tune.models.losses import sample_losses
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.seeds import derive

if TYPE_CHECKING:
    from balance_tune.training.batch import Batch, Output
    from balance_tune.training.context import Context


class Only(Modulation):
    """Joint training in which only some modalities' inputs are present."""

    name = ""

    def __init__(self, present: Collection[str]) -> None:
        super().__init__()
        self.present = frozenset(present)

    def forward(self, batch: Batch, ctx: Context) -> Output:
        return ctx.forward(batch, present=self.present)


class Branch:
    """A copy of a run that trains aside; its steps cost the trial time, and change nothing in it.

    Attributes:
        context: the copy's own context (model, optimiser, order of rows).
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    def of(cls, ctx: Context, purpose: str, model: MultimodalModel | None = None) -> Branch:
        from balance_tune.training.context import Context

        made = Context(
            copy.deepcopy(ctx.model) if model is None else model,
            Modulation(),
            ctx.parts,
            ctx.settings,
            replicas=ctx.replicas,
            seed=derive(ctx.seed, "branch", purpose, ctx.epoch),
            device=ctx.device,
        )
        made.epoch, made.epochs = ctx.epoch, ctx.epochs
        return cls(made)

    def train(self, epochs: int, present: Collection[str] | None = None, modulation: Modulation | None = None) -> float:
        """Train so many epochs (at the learning rates of the epochs from here on); return the last mean loss."""
        from balance_tune.training.loop import train_epoch

        how = modulation or (Modulation() if present is None else Only(present))
        loss, began = float("nan"), self.context.epoch
        state = torch.random.get_rng_state()
        for epoch in range(began, began + epochs):
            self.context.epoch = min(epoch, self.context.epochs - 1)
            loss = train_epoch(self.context, how, lambda: False)
        torch.random.set_rng_state(state)
        self.context.epoch = began + epochs
        return loss

    @torch.no_grad()
    def loss(self, split: str, present: Collection[str] | None = None) -> float:
        """Return the evaluation-mode mean loss over `train` or `monitor`."""
        if split not in ("train", "monitor"):
            raise ValueError(f"a method may read train and monitor, but asked for {split!r}.")
        ctx = self.context
        was_training = ctx.model.training
        ctx.model.eval()
        total = torch.zeros((), device=ctx.device, dtype=torch.float64)
        for batch in ctx.batches(split):  # type: ignore[arg-type]
            output = ctx.forward(batch, present=ctx.model.modalities if present is None else present)
            total += sample_losses(ctx.model.task, output.logits, batch.labels).sum().double()
        ctx.model.train(was_training)
        (summed,) = ctx.replicas.sum(total)
        mean: float = float(summed) / len(ctx.parts[split])  # type: ignore[index]
        return mean


def teacher(ctx: Context, modality: str, epochs: int) -> Encoder:
    """Return a frozen copy of the modality's present encoder, trained alone with a fresh linear head.

    A run of its own with the trial's recipe, its learning rate schedule stretched over `epochs`.
    """
    encoder: Encoder = copy.deepcopy(ctx.model.encoders[modality])  # type: ignore[assignment]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(ctx.seed, "teacher", modality))
        head = Concat({modality: encoder.features}, ctx.model.classes)
    like: Tensor = next(iter(encoder.parameters()))
    model = MultimodalModel({modality: encoder}, head.to(like.device, like.dtype), ctx.model.task)
    branch = Branch.of(ctx, f"teacher/{modality}", model)
    branch.context.epoch, branch.context.epochs = 0, epochs
    branch.context.settings = dataclasses.replace(ctx.settings, epochs=epochs)
    branch.train(epochs)
    return encoder.requires_grad_(False).eval()
