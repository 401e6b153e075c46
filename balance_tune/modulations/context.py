"""What a method may use: the reference for method authors.

Every hook of a `Modulation` receives a `Context` as `ctx`. It holds the model, the optimiser's step and the training
data, and nothing else: no validation data, no test data, no Ray. The implementations are
`balance_tune.training.context.RunContext` and, for a loop of the user's, `balance_tune.balancing.context.LoopContext`.

Notation: B samples of this worker in the step, M modalities, C answers, d_m features of modality m; "0-d" is a tensor
without axes, which stays on its device. With several workers every number that decides something must come from
`replicas.sum` (or from `score_vector`, which does), so that all workers decide alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import MultimodalModel, Policy
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.scores import Scores, Values
from balance_tune.modulations.teacher import Teacher
from balance_tune.replicas import Replicas
from balance_tune.settings import TrainingSettings

SplitName = Literal["train", "monitor"]
"""The parts that a method may read. `monitor` is held out from training and never used for selection."""


class Context(Protocol):
    """One run's model, optimiser and training data, as the hooks of a method see them.

    Attributes:
        model: the multimodal model; `model.gradients(m, policy)` are one modality's gradients, to be changed in place.
        modules: the method's training-only parts, as `Modulation.modules` returned them.
        replicas: the workers that share this run.
        settings: the training recipe.
        epoch, epochs: 0-based epoch under way, and how many there are.
        step: 0-based count of loop steps in the run.
        seed: the trial's seed. Derive from it (`balance_tune.seeds`) what must be the same after a resume.
        device: where the model is.
        on_cpu: whether tensors are on the CPU, so that `.item()` does not synchronise with a device.
    """

    model: MultimodalModel
    modules: nn.ModuleDict
    replicas: Replicas
    settings: TrainingSettings
    epoch: int
    epochs: int
    step: int
    seed: int
    device: torch.device
    on_cpu: bool

    @property
    def hooks(self) -> Hooks:
        """The hooks in force in this epoch: those of the whole method, a chain included, or of joint training.

        A method that owns the step (`train_step`) calls these instead of its own, so that it can be chained.
        """

    # a step ----------------------------------------------------------------------------------------------------------
    def forward(self, batch: Batch, present: Collection[str] | None = None) -> Output:
        """Return the model's output on a batch.

        Without `present` this is the step's own pass: `on_features` runs between encoders and fusion, and the scores
        are those of its features before any dropping. With `present`, the inputs of the other modalities are zero, no
        hook runs and the scores stay as they are.

        Args:
            batch: B samples of this worker.
            present: modalities that the model sees; None: all.
        """

    def again(self, batch: Batch) -> Output:
        """Return the output of a second training pass over the step's batch, at whatever weights the model has now.

        Dropout masks and the dropping of `on_features` are those of the step's own pass, the scores stay, and running
        statistics of BatchNorm are not updated (its batch statistics are those of this pass). The method must declare
        `second_pass = True`.

        Args:
            batch: the step's own.
        """

    @property
    def score_vector(self) -> Tensor:
        """Per modality the sum over the global batch of the probability of the true class, (M,) on the device.

        From the unimodal logits of the step's features before dropping, without gradient, computed once per step.
        Undefined for regression.
        """

    @property
    def score_ratios(self) -> Values:
        """Per modality rho_m = 1/(M-1) sum_{j != m} s_m / s_j of the `score_vector`, computed once per step.

        A tuple of numbers where `on_cpu`, else (M,) on the device; see `modulations.scores.Values`.
        """

    @property
    def scores(self) -> Scores:
        """The `score_vector` as {modality: 0-d}."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean of the task's loss over the global batch, 0-d; see `mean`.

        Args:
            logits: (B, C).
            batch: B samples of this worker.
        """

    def mean(self, values: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of per-sample values over the global batch, 0-d.

        With several workers: this worker's sum over the global weight, times their number, so that the average of the
        workers' gradients is the gradient of the global mean.

        Args:
            values: (B,), one a sample.
            batch: B samples of this worker.
        """

    def gather(self, values: Tensor, batch: Batch) -> Tensor:
        """Return per-sample values (total, ...) of the whole global batch, with gradient.

        Rows are in the order of `batch.position`. A loss of the gathered rows is computed by every worker alike, as the
        plain global value; the average of the workers' gradients is then its gradient.

        Args:
            values: (B, ...).
            batch: B samples of this worker.
        """

    def default_step(self, modulation: Hooks, batch: Batch) -> Tensor:
        """Take one step the common way.

        Args:
            modulation: whose hooks run.
            batch: B samples of this worker.

        Returns:
            The fused loss (0-d, detached).
        """

    def backward(self, loss: Tensor | int) -> None:
        """Add d loss / d parameter to every gradient.

        Args:
            loss: 0-d; a plain 0 where nothing is to be learnt.
        """

    def gradients(self, losses: Losses, create_graph: bool = False) -> dict[str, list[Tensor]]:
        """Return each loss's own gradients, averaged over workers, in the order of `parameters`; zero where unused.

        Args:
            losses: {name: 0-d}.
            create_graph: whether the gradients themselves can be differentiated.
        """

    def average_gradients(self) -> None:
        """Average the parameters' gradients over workers, once per step or after each `zero_gradients`."""

    def zero_gradients(self) -> None:
        """Remove all gradients, in the middle of a step that goes backward several times."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, in one fixed order: the model's parameters, then the method's own."""

    def optimizer_step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        """Average, clip, update, and clear the gradients; parameters without a gradient stay.

        Args:
            only: the parameters to update; None: all.
        """

    def scale_lr(self, modality: str, factor: Tensor | float, policy: Policy = "encoder") -> None:
        """Multiply the learning rate of one modality's parameters in this step's update, whatever the optimiser.

        Args:
            modality: whose parameters.
            factor: 1 changes nothing, 0 keeps them as they are; 0-d on the device, or a number.
            policy: which of its parameters, as of `MultimodalModel.parameters_of`.
        """

    def scale_lr_of(self, parameters: list[nn.Parameter], factor: Tensor | float) -> None:
        """Multiply the learning rate of these parameters in this step's update, whatever the optimiser.

        Args:
            parameters: of the model or of the method.
            factor: 1 changes nothing, 0 keeps them as they are; 0-d on the device, or a number.
        """

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in the arithmetic of encoders and fusion (`training.precision`).

        Returns:
            A context manager for passes through parts of the model.
        """

    # random numbers, the same on every worker and after every resume -------------------------------------------------
    def shared_generator(self, purpose: str) -> torch.Generator:
        """Return the device's generator, seeded by (trial, purpose, epoch, step).

        Each call restarts it; draw what is needed before asking for another purpose.

        Args:
            purpose: a name; another one gives other numbers.
        """

    def shared_uniform(self, purpose: str, *shape: int) -> Tensor:
        """Return this step's numbers of [0, 1) for a purpose, float32; valid until the next step.

        Args:
            purpose: names the draw within the step.
            shape: of the result.
        """

    def shared_normal(self, purpose: str, like: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield this step's N(0, 1) numbers in the shape of each tensor; valid until the next step.

        Args:
            purpose: as in `shared_generator`.
            like: tensors whose shapes are taken.
        """

    def shared_coin(self, purpose: str, probability: float) -> bool:
        """Return true with a probability, without a device: keyed by (trial, purpose, epoch, step).

        Args:
            purpose: names the draw within the step.
            probability: of true; 1 or more is always true.
        """

    def log(self, name: str, values: Mapping[str, Tensor] | Values | float) -> None:
        """Record a step's value; the epoch's mean becomes `modulation/<name>` or `modulation/<name>/<modality>`.

        Args:
            name: of the curve.
            values: one value (0-d), or one per modality: M in the model's order, or a dict of all of them. They must be
                the same on every worker.
        """

    # data ------------------------------------------------------------------------------------------------------------
    def size(self, split: SplitName) -> int:
        """Return how many rows a split has.

        Args:
            split: "train" or "monitor".
        """

    def rows_at_once(self, split: SplitName) -> int:
        """Return how many rows of a split an evaluation-mode pass may take at once.

        Args:
            split: "train" or "monitor".
        """

    def plan(self) -> EpochPlan:
        """Return this epoch's shuffled order of the training part, before any method changes it."""

    def planned(self, plan: EpochPlan) -> Iterator[Batch]:
        """Yield this worker's share of every global batch of an epoch's plan, augmented as in training.

        Args:
            plan: which rows, in which order.
        """

    def take(self, split: SplitName, rows: Tensor, present: Tensor | None, position: Tensor, total: int) -> Batch:
        """Return rows (B,) of a split as a batch, not augmented; `present` (B, M) zeroes absent modalities' inputs.

        Args:
            split: `train` or `monitor`.
            rows: (B,) long, positions in the split.
            present: (B, M) bool, or None where all modalities are present.
            position: (B,) long, places in the global batch.
            total: samples of the global batch, on all workers.
        """

    def batches(self, split: SplitName, size: int | None = None) -> Iterator[Batch]:
        """Yield this worker's share of a split in its own order.

        Args:
            split: "train" or "monitor".
            size: samples at once; None: as many as fit.
        """

    def encode(self, split: SplitName) -> tuple[Features, Tensor]:
        """Return evaluation-mode features {modality: (N, d_m)} and labels (N,) of a whole split, on every worker.

        Args:
            split: "train" or "monitor".
        """

    # extra training, charged to the trial ----------------------------------------------------------------------------
    def fork(self, purpose: str) -> Branch:
        """Return a copy of the model with an optimiser of its own, to be trained aside.

        Args:
            purpose: a name, from which the copy gets its seed.
        """

    def teacher(self, modality: str, epochs: int) -> Teacher:
        """Return a frozen unimodal model, encoder and head, trained alone.

        The encoder starts from the modality's present encoder, the linear head from the trial's seed; a run of its own
        with the trial's recipe, its learning rate schedule stretched over `epochs`.

        Args:
            modality: its name.
            epochs: how long it is trained.
        """


class Hooks(Protocol):
    """The hooks of a step; see `Modulation`, where each is explained."""

    def forward(self, batch: Batch, ctx: Context) -> Output: ...

    def on_features(self, features: Features, batch: Batch, ctx: Context) -> tuple[Features, Batch]: ...

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses: ...

    def backward(self, losses: Losses, ctx: Context) -> None: ...

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None: ...

    def observe(self, output: Output, batch: Batch, ctx: Context) -> None: ...


class Branch(Protocol):
    """A copy of a run that trains aside; its steps cost the trial time, and change nothing in it.

    Attributes:
        model: the copy.
    """

    @property
    def model(self) -> MultimodalModel:
        """The copy."""

    def train(self, epochs: int, present: Collection[str] | None = None) -> float:
        """Train so many epochs, only `present` modalities' inputs not zero; return the last epoch's mean loss."""

    def loss(self, split: SplitName, present: Collection[str] | None = None) -> float:
        """Return the evaluation-mode mean loss over `train` or `monitor`."""
