"""What a method may use inside the loop, and nothing else: no validation data, no test data, no Ray."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Features
from balance_tune.models.losses import sample_losses
from balance_tune.models.multimodal import Inputs, MultimodalModel, Policy, silence
from balance_tune.modulations.base import Losses, Modulation
from balance_tune.modulations.scores import Scores, Values, by_name, ratios, ratios_on_host, score_sums_by_class
from balance_tune.replicas import Replicas
from balance_tune.seeds import derive
from balance_tune.training.batch import Batch, EpochPlan, Output, share
from balance_tune.training.draws import Draws
from balance_tune.training.feed import Feed, draws_for
from balance_tune.training.optimization import Optimization
from balance_tune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from balance_tune.training.branch import Branch

SplitName = Literal["train", "monitor"]
JOINT = Modulation()


class Context:
    """One run's model, optimiser and training data, as the hooks of a method see them.

    Attributes:
        model: the multimodal model.
        replicas: the workers that share this run.
        epoch, epochs: 0-based epoch under way, and how many there are.
        step: 0-based count of optimiser steps in the run.
        settings: the training recipe.
        modules: the method's training-only parts.
        on_cpu: whether values are in the host's memory, so that reading one waits for nothing.
    """

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
    ) -> None:
        self.model, self.modulation, self.settings = model, modulation, settings
        self.replicas, self.seed, self.device = replicas, seed, device
        self.epoch, self.epochs, self.step = 0, settings.epochs, 0
        self.modules = modulation.modules()
        self.optimization = Optimization(model, self.modules, modulation.parameter_groups(settings), settings, replicas)
        self.parts = {name: feed.only(model.modalities) for name, feed in parts.items()}
        self.acting = modulation
        self._generator = torch.Generator(device)
        self._draws = Draws(device)
        self._seen: tuple[Features, Tensor] | None = None
        self._scores: Tensor | None = None
        self._ratios: Values | None = None
        self._logged: dict[str, list[Values]] = {}
        self.on_cpu = device.type == "cpu"

    # a step ----------------------------------------------------------------------------------------------------------
    def forward(self, batch: Batch, present: Collection[str] | None = None) -> Output:
        """Return the model's output on a batch.

        Without `present` this is the step's own pass: the method's `on_features` runs between encoders and fusion, and
        `scores` is about these features before any dropping. With it, the inputs of the other modalities are silenced
        and no hook runs.
        """
        with self.autocast():
            if present is not None:
                features = self.model.encode(silence(batch.inputs, present))
                return Output(_precise(self.model.fusion(features)), features, features, batch)
            features = self.model.encode(batch.inputs)
            self._seen, self._scores, self._ratios = (features, batch.labels), None, None
            kept, batch = self.acting.on_features(features, batch, self)
            return Output(_precise(self.model.fusion(kept)), kept, features, batch)

    @property
    def score_vector(self) -> Tensor:
        """Per modality the sum over the global batch of the probability of the truth, (M,) on the device.

        From the unimodal logits of the step's features before dropping, without gradient, computed once per step.
        """
        if self._scores is None:
            if self._seen is None:
                raise RuntimeError("`ctx.scores` needs a forward pass of this step first.")
            features, labels = self._seen
            if self.model.task == "regression":
                raise UserError(
                    f"`ctx.scores` needs class probabilities, which regression has not; method {self.modulation.name} "
                    "must say so in its `tasks`."
                )
            with torch.no_grad(), self.autocast():  # the features may be bfloat16
                logits = self.model.fusion.unimodal_logits_by_class(features)
                (self._scores,) = self.replicas.sum(score_sums_by_class(logits, labels))
        return self._scores

    @property
    def score_ratios(self) -> Values:
        """Per modality rho_m = 1/(M-1) sum_{j != m} s_m / s_j of the `score_vector`, computed once per step.

        Numbers where `on_cpu`, which spares a dozen operations on two of them; else (M,) on the device.
        """
        scores = self.score_vector
        if self._ratios is None:
            self._ratios = ratios_on_host(scores.tolist()) if self.on_cpu else ratios(scores)
        return self._ratios

    @property
    def scores(self) -> Scores:
        """The `score_vector` as {modality: 0-d tensor}."""
        return by_name(self.score_vector, self.model.widths)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean of the task's loss over the global batch (this worker's part of it, see `mean`)."""
        if batch.weight is None and self.replicas.world == 1 and self.model.task == "classes":
            return F.cross_entropy(logits, batch.labels)
        return self.mean(sample_losses(self.model.task, logits, batch.labels), batch)

    def mean(self, values: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of per-sample values (B,) over the global batch.

        With several workers: this worker's sum over the global weight, times their number, so that the average of the
        workers' gradients is the gradient of the global mean.
        """
        if batch.weight is None:
            return values.sum() * (self.replicas.world / batch.total)
        (weight,) = self.replicas.sum(batch.weight.sum())
        return (values * batch.weight).sum() * (self.replicas.world / weight.clamp_min(1e-12))

    def default_step(self, modulation: Modulation, batch: Batch) -> Tensor:
        """Take one step the common way, through the hooks of `modulation`; return CE(f, y) (0-d, detached)."""
        output = modulation.forward(batch, self)
        batch = output.batch
        fused = self.loss(output.logits, batch)
        modulation.backward(modulation.on_losses({"fused": fused}, output, batch, self), self)
        self.optimization.average()
        modulation.on_gradients(output, batch, self)
        self.modulation.observe(output, batch, self)
        self.optimizer_step()
        return fused.detach()

    def backward(self, loss: Tensor | int) -> None:
        """Add d loss / d parameter to every gradient."""
        if isinstance(loss, Tensor):
            loss.backward()

    def gradients(self, losses: Losses, create_graph: bool = False) -> dict[str, list[Tensor]]:
        """Return each loss's own gradients, averaged over workers, in the order of `parameters`; zero where unused."""
        found: dict[str, list[Tensor]] = {}
        for k, (name, loss) in enumerate(losses.items()):
            grads = torch.autograd.grad(
                loss,
                self.parameters,
                retain_graph=create_graph or k + 1 < len(losses),
                create_graph=create_graph,
                allow_unused=True,
            )
            filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, grads, strict=True)]
            found[name] = filled if create_graph and self.replicas.world == 1 else self.replicas.average(filled)
        return found

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, in one fixed order: the model's parameters, then the method's own."""
        return self.optimization.parameters

    def optimizer_step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        """Average, clip, update, and clear the gradients; parameters without a gradient (or outside `only`) stay."""
        self.optimization.step(only)

    def scale_lr(self, modality: str, factor: Tensor | float, policy: Policy = "encoder") -> None:
        """Multiply the learning rate of one modality's parameters in this step's update, whatever the optimiser."""
        self.optimization.scale(self.model.parameters_of(modality, policy), factor)

    def autocast(self) -> AbstractContextManager[object]:
        """The arithmetic of encoders and fusion (`training.precision`)."""
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def shared_generator(self, purpose: str) -> torch.Generator:
        """Return the device's generator, seeded by (trial, purpose, step): the same draws on every worker.

        Each call restarts it; draw what is needed before asking for another purpose.
        """
        self._generator.manual_seed(derive(self.seed, purpose, self.epoch, self.step))
        return self._generator

    def shared_uniform(self, purpose: str, *shape: int) -> Tensor:
        """Return this step's numbers of [0, 1) for a purpose, the same on every worker; valid until the next step."""
        return self._draws.uniform(self.seed, purpose, self.step, shape)

    def shared_normal(self, purpose: str, like: Sequence[Tensor]) -> list[Tensor]:
        """Return this step's N(0, 1) numbers in the shapes of tensors, as `shared_uniform`."""
        return self._draws.normal(self.seed, purpose, self.step, like)

    def shared_coin(self, purpose: str, probability: float) -> bool:
        """Return heads or tails, the same on every worker, without a device: keyed by (trial, purpose, step)."""
        return probability >= 1 or derive(self.seed, purpose, self.epoch, self.step) < probability * 2**63

    def log(self, name: str, values: Mapping[str, Tensor] | Values | float) -> None:
        """Record a step's value; the epoch's mean becomes `modulation/<name>` or `modulation/<name>/<modality>`.

        Args:
            values: one value (0-d), or one per modality: M in the model's order, or a dict of all of them.
        """
        if isinstance(values, tuple):
            self._logged.setdefault(name, []).append(values)
            return
        if not isinstance(values, Tensor):
            values = torch.stack(list(values.values())) if isinstance(values, Mapping) else torch.as_tensor(values)
        if values.requires_grad:
            values = values.detach()
        self._logged.setdefault(name, []).append(values)

    def logged(self) -> dict[str, float]:
        """Return the means of what was logged since the last call, and forget it."""
        means: dict[str, float] = {}
        for name, values in self._logged.items():
            mean = torch.stack([torch.as_tensor(v) for v in values]).double().mean(0)
            if mean.dim():
                means |= {
                    f"modulation/{name}/{m}": v for m, v in zip(self.model.modalities, mean.tolist(), strict=True)
                }
            else:
                means[f"modulation/{name}"] = mean.item()
        self._logged = {}
        return means

    # data ------------------------------------------------------------------------------------------------------------
    def plan(self) -> EpochPlan:
        """Return this epoch's shuffled order of the training part, before any method changes it."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        return EpochPlan(torch.randperm(len(self.parts["train"]), generator=generator).to(self.device))

    def planned(self, plan: EpochPlan) -> Iterator[Batch]:
        """Yield this worker's share of every global batch of an epoch's plan."""
        size, (rank, world) = self.settings.batch_size, (self.replicas.rank, self.replicas.world)
        feed, starts = self.parts["train"], range(0, len(plan), size)
        order = plan.order.cpu() if feed.host else plan.order
        stored = feed.stream(order[start : start + size][rank::world] for start in starts)
        for start, x in zip(starts, stored, strict=True):
            rows, present, position, total = share(plan, start, size, rank, world)
            key = (self.seed, "augment", self.epoch, self.step)
            draws = draws_for(feed.inputs, key, position, total) if feed.augments else None
            yield self._batch(feed, feed.prepared(x, draws), rows, present, position, total)

    def take(self, split: SplitName, rows: Tensor, present: Tensor | None, position: Tensor, total: int) -> Batch:
        """Return these rows of a split as a batch, not augmented; `present` (B, M) zeroes absent modalities' inputs."""
        feed = self.parts[split]
        return self._batch(feed, feed.take(rows), rows, present, position, total)

    def _batch(
        self, feed: Feed, inputs: Inputs, rows: Tensor, present: Tensor | None, position: Tensor, total: int
    ) -> Batch:
        if present is not None:
            for k, (m, x) in enumerate(inputs.items()):
                inputs[m] = x * present[:, k].to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return Batch(inputs, feed.labels.index_select(0, rows), rows, position, total)

    def batches(self, split: SplitName, size: int | None = None) -> Iterator[Batch]:
        """Yield this worker's share of a split in its own order, `size` samples at once (default: what fits)."""
        feed = self.parts[split]
        plan, size = EpochPlan(torch.arange(len(feed), device=self.device)), size or feed.at_once
        for start in range(0, len(plan), size):
            yield self.take(split, *share(plan, start, size, self.replicas.rank, self.replicas.world))

    @torch.no_grad()
    def encode(self, split: SplitName) -> tuple[Features, Tensor]:
        """Return evaluation-mode features {modality: (N, d_m)} and labels (N,) of a whole split, on every worker."""
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
            m: self.replicas.gather(torch.cat([_precise(c[m]) for c in chunks]))[order] for m in self.model.modalities
        }
        return features, self.replicas.gather(torch.cat(labels))[order]

    # extra training, on the trial's own clock -------------------------------------------------------------------------
    def fork(self, purpose: str) -> Branch:
        """Return a copy of the model with an optimiser of its own, to be trained aside."""
        from balance_tune.training.branch import Branch  # it needs the loop, which needs this module

        return Branch.of(self, purpose)

    def teacher(self, modality: str, epochs: int) -> Encoder:
        """Return a frozen encoder of one modality, trained alone with a linear head for so many epochs."""
        from balance_tune.training.branch import teacher

        return teacher(self, modality, epochs)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
