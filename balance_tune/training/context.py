"""The state of one run inside the loop: its steps, its data, and what it trains aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import Inputs, MultimodalModel
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, EpochPlan
from balance_tune.modulations.context import Branch, SplitName
from balance_tune.modulations.teacher import Teacher
from balance_tune.replicas import Replicas
from balance_tune.seeds import derive
from balance_tune.settings import TrainingSettings
from balance_tune.training.feed import Feed, draws_for
from balance_tune.training.optimization import Optimization
from balance_tune.training.step import StepContext


class RunContext(StepContext):
    """Implements `balance_tune.modulations.context.Context`, and what the loop needs beside it.

    Args:
        parts: the splits that a method may read.
        fork, teacher: how a copy and a unimodal model are trained aside; they need the loop, which needs this module.
    """

    optimization: Optimization

    def __init__(
        self,
        model: MultimodalModel,
        modulation: Modulation,
        parts: Mapping[SplitName, Feed],
        settings: TrainingSettings,
        *,
        replicas: Replicas,
        seed: int,
        device: torch.device,
        fork: Callable[[RunContext, str], Branch],
        teacher: Callable[[RunContext, str, int], Teacher],
    ) -> None:
        modules = modulation.modules()
        optimization = Optimization(model, modules, modulation.parameter_groups(settings), settings, replicas)
        super().__init__(
            model, modulation, modules, optimization, settings, replicas=replicas, seed=seed, device=device
        )
        self.parts = {name: feed.only(model.modalities) for name, feed in parts.items()}
        self._fork, self._teacher = fork, teacher

    # data ------------------------------------------------------------------------------------------------------------
    def plan(self) -> EpochPlan:
        generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        return EpochPlan(torch.randperm(len(self.parts["train"]), generator=generator).to(self.device))

    def planned(self, plan: EpochPlan) -> Iterator[Batch]:
        feed, size = self.parts["train"], self.settings.batch_size
        rank, world = self.replicas.rank, self.replicas.world
        order = plan.order.cpu() if feed.host else plan.order  # one copy per epoch, none per batch
        stored = feed.stream(order[places.start : places.stop][rank::world] for _, places in plan.batches(size))
        for (rows, present, position, total, group), x in zip(plan.shares(size, rank, world), stored, strict=True):
            key = (self.seed, "augment", self.epoch, self.step)
            draws = draws_for(feed.inputs, key, position, total) if feed.augments else None
            inputs = feed.silenced(feed.prepared(x, draws), rows)
            silent = present if plan.silence == "inputs" else None
            batch = self._batch(feed, inputs, rows, silent, position, total)
            if plan.silence == "features" or group is not None:
                batch = replace(batch, present=present if plan.silence == "features" else None, group=group)
            yield batch

    def take(self, split: SplitName, rows: Tensor, present: Tensor | None, position: Tensor, total: int) -> Batch:
        feed = self.parts[split]
        return self._batch(feed, feed.take(rows), rows, present, position, total)

    def size(self, split: SplitName) -> int:
        return len(self.parts[split])

    def rows_at_once(self, split: SplitName) -> int:
        return self.parts[split].at_once

    def _batch(
        self, feed: Feed, inputs: Inputs, rows: Tensor, present: Tensor | None, position: Tensor, total: int
    ) -> Batch:
        if present is not None:
            for k, (m, x) in enumerate(inputs.items()):
                inputs[m] = x * present[:, k].to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return Batch(inputs, feed.labels.index_select(0, rows), rows, position, total)

    def batches(self, split: SplitName, size: int | None = None) -> Iterator[Batch]:
        feed = self.parts[split]
        plan, size = EpochPlan(torch.arange(len(feed), device=self.device)), size or feed.at_once
        for share in plan.shares(size, self.replicas.rank, self.replicas.world):
            yield self.take(split, share.rows, share.present, share.position, share.total)

    @torch.no_grad()
    def encode(self, split: SplitName) -> tuple[Features, Tensor]:
        was_training = self.model.training
        self.model.eval()
        rows, labels, chunks = [], [], []
        with self.autocast():
            for batch in self.batches(split):
                rows.append(batch.index)
                labels.append(batch.labels)
                chunks.append(self.model.encode(batch.inputs))
        self.model.train(was_training)
        order = self.replicas.gather(torch.cat(rows)).argsort()
        features = {
            m: self.replicas.gather(torch.cat([precise(c[m]) for c in chunks]))[order] for m in self.model.modalities
        }
        return features, self.replicas.gather(torch.cat(labels))[order]

    # extra training, charged to the trial ----------------------------------------------------------------------------
    def fork(self, purpose: str) -> Branch:
        return self._fork(self, purpose)

    def teacher(self, modality: str, epochs: int) -> Teacher:
        return self._teacher(self, modality, epochs)
