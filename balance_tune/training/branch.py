"""Extra training on the side: copies of a model trained alone, and unimodal teachers, on the trial's own clock."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection

import torch
from torch import Tensor

from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Concat
from balance_tune.models.losses import sample_losses
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context, SplitName
from balance_tune.modulations.teacher import Teacher
from balance_tune.seeds import derive
from balance_tune.training.context import RunContext
from balance_tune.training.loop import train_epoch


class Only(Modulation):
    """Joint training in which only some modalities' inputs are present."""

    name = ""

    def __init__(self, present: Collection[str]) -> None:
        super().__init__()
        self.present = frozenset(present)

    def forward(self, batch: Batch, ctx: Context) -> Output:
        return ctx.forward(batch, present=self.present)


class Branch:
    """Implements `balance_tune.modulations.context.Branch`.

    Attributes:
        context: the copy's own context (model, optimiser, order of rows).
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context

    @classmethod
    def of(cls, ctx: RunContext, purpose: str, model: MultimodalModel | None = None) -> Branch:
        """Return a copy of a run that goes on from its epoch, with its own order of rows and a fresh optimiser."""
        context = RunContext(
            copy.deepcopy(ctx.model) if model is None else model,
            Modulation(),
            ctx.parts,
            ctx.settings,
            replicas=ctx.replicas,
            seed=derive(ctx.seed, "branch", purpose, ctx.epoch),
            device=ctx.device,
            fork=cls.of,
            teacher=teacher,
        )
        context.epoch, context.epochs = ctx.epoch, ctx.epochs
        return cls(context)

    @property
    def model(self) -> MultimodalModel:
        """The copy."""
        return self.context.model

    def train(self, epochs: int, present: Collection[str] | None = None, modulation: Modulation | None = None) -> float:
        """Train so many epochs (at the learning rates of the epochs from here on); return the last mean loss."""
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
    def loss(self, split: SplitName, present: Collection[str] | None = None) -> float:
        """Return the evaluation-mode mean loss over `train` or `monitor`."""
        if split not in ("train", "monitor"):
            raise ValueError(f"a method may read train and monitor, but asked for {split!r}.")
        ctx = self.context
        was_training = ctx.model.training
        ctx.model.eval()
        total = torch.zeros((), device=ctx.device, dtype=torch.float64)
        for batch in ctx.batches(split):
            output = ctx.forward(batch, present=ctx.model.modalities if present is None else present)
            total += sample_losses(ctx.model.task, output.logits, batch.labels).sum().double()
        ctx.model.train(was_training)
        (summed,) = ctx.replicas.sum(total)
        return float(summed) / ctx.size(split)


def teacher(ctx: RunContext, modality: str, epochs: int) -> Teacher:
    """Implements `Context.teacher`."""
    encoder: Encoder = copy.deepcopy(ctx.model.encoders[modality])  # type: ignore[assignment]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(ctx.seed, "teacher", modality))
        fusion = Concat({modality: encoder.features}, ctx.model.classes)
    like: Tensor = next(iter(encoder.parameters()))
    model = MultimodalModel({modality: encoder}, fusion.to(like.device, like.dtype), ctx.model.task)
    branch = Branch.of(ctx, f"teacher/{modality}", model)
    branch.context.epoch, branch.context.epochs = 0, epochs
    branch.context.settings = dataclasses.replace(ctx.settings, epochs=epochs)
    branch.train(epochs)
    frozen = Teacher(encoder, fusion.head)
    return frozen.requires_grad_(False).eval()
