"""The state of one training step; methods see it as `modulations.context.Context`, which explains it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.losses import sample_losses
from balance_tune.models.multimodal import MultimodalModel, Policy, silence
from balance_tune.models.pieces import KeepNothing, observers_of
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context, Hooks
from balance_tune.modulations.scores import Scores, Values, by_name, ratios, ratios_on_host, score_sums_by_class
from balance_tune.replicas import Replicas
from balance_tune.seeds import derive
from balance_tune.settings import TrainingSettings
from balance_tune.training.draws import MANY, Draws, shaped

JOINT = Modulation()


class Updates(Protocol):
    """What a step needs of an optimiser.

    Attributes:
        parameters: all that is trained, the model's parameters first, then the method's own.
    """

    parameters: list[nn.Parameter]

    def average(self) -> None:
        """Average gradients over workers, once per step."""

    def zero(self) -> None:
        """Remove all gradients."""

    def scale(self, parameters: list[nn.Parameter], factor: Tensor | float) -> None:
        """Multiply these parameters' learning rate by `factor` in the next step only."""

    def step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        """Update the parameters (those of `only`), and remove all gradients."""


class StepContext(Context):
    """Implements the part of `balance_tune.modulations.context.Context` that needs no data set.

    Args:
        modules: the method's training-only parts.
        optimization: updates the parameters of the model and of `modules`.

    Attributes:
        modulation: the run's method.
        acting: the hooks in force in the epoch under way: the method inside its window, else joint training.
    """

    def __init__(
        self,
        model: MultimodalModel,
        modulation: Modulation,
        modules: nn.ModuleDict,
        optimization: Updates,
        settings: TrainingSettings,
        *,
        replicas: Replicas,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.modulation, self.modules, self.settings = model, modulation, modules, settings
        self.optimization = optimization
        self.replicas, self.seed, self.device = replicas, seed, device
        self.on_cpu = device.type == "cpu"
        self.epoch, self.epochs, self.step = 0, settings.epochs, 0
        self.acting = modulation
        self._generator = torch.Generator(device)
        self._draws = Draws(device)
        self._seen: tuple[Features, Tensor] | None = None
        self._scores: Tensor | None = None
        self._ratios: Values | None = None
        self._random_states: list[Tensor] = []
        self._logged: dict[str, list[Values]] = {}

    @property
    def hooks(self) -> Hooks:
        return self.acting

    # a step ----------------------------------------------------------------------------------------------------------
    def forward(self, batch: Batch, present: Collection[str] | None = None) -> Output:
        with self.autocast():
            if present is not None:
                features = self.model.encode(silence(batch.inputs, present))
                return Output(precise(self.model.fusion(features)), features, features, batch)
            if self.acting.second_pass:
                self._random_states = [get() for get, _ in self._random()]
            features = self._encode(batch)
            self._seen, self._scores, self._ratios = (features, batch.labels), None, None
            return self._fuse(features, batch)

    def again(self, batch: Batch) -> Output:
        if not self._random_states:
            raise RuntimeError("`ctx.again` needs a method with `second_pass = True` and a pass before it.")
        now = [get() for get, _ in self._random()]
        for (_, put), state in zip(self._random(), self._random_states, strict=True):
            put(state)
        with self.autocast(), KeepNothing(observers_of(self.model)):
            output = self._fuse(self._encode(batch), batch)
        for (_, put), state in zip(self._random(), now, strict=True):
            put(state)
        return output

    def _encode(self, batch: Batch) -> Features:
        features = self.model.encode(batch.inputs)
        if batch.present is None:
            return features
        columns = batch.present.unbind(1)
        return {m: h * mask.to(h.dtype).unsqueeze(1) for (m, h), mask in zip(features.items(), columns, strict=True)}

    def _fuse(self, features: Features, batch: Batch) -> Output:
        used, batch = self.acting.on_features(features, batch, self)
        return Output(precise(self.model.fusion(used)), used, features, batch)

    def _random(self) -> list[tuple[Callable[[], Tensor], Callable[[Tensor], None]]]:
        """Return how to read and how to set each random state that dropout draws from."""
        states: list[tuple[Callable[[], Tensor], Callable[[Tensor], None]]] = [
            (torch.random.get_rng_state, torch.random.set_rng_state)
        ]
        if self.device.type == "cuda":
            device = self.device
            states.append(
                (lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device))
            )
        return states

    @property
    def score_vector(self) -> Tensor:
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
        scores = self.score_vector
        if self._ratios is None:
            self._ratios = ratios_on_host(scores.tolist()) if self.on_cpu else ratios(scores)
        return self._ratios

    @property
    def scores(self) -> Scores:
        return by_name(self.score_vector, self.model.widths)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.weight is None and self.replicas.world == 1 and self.model.task == "classes":
            return F.cross_entropy(logits, batch.labels)
        return self.mean(sample_losses(self.model.task, logits, batch.labels), batch)

    def mean(self, values: Tensor, batch: Batch) -> Tensor:
        if batch.weight is None:
            return values.sum() * (self.replicas.world / batch.total)
        (weight,) = self.replicas.sum(batch.weight.sum())
        return (values * batch.weight).sum() * (self.replicas.world / weight.clamp_min(1e-12))

    def gather(self, values: Tensor, batch: Batch) -> Tensor:
        return self.replicas.gather_with_gradient(values, batch.position, batch.total)

    def default_step(self, modulation: Hooks, batch: Batch) -> Tensor:
        output = modulation.forward(batch, self)
        fused = self.loss(output.logits, output.batch)
        self.modulated_backward(modulation, fused, output)
        self.optimizer_step()
        return fused.detach()

    def modulated_backward(self, modulation: Hooks, fused: Tensor, output: Output) -> None:
        """Compute the step's gradients from the fused loss (0-d) and the forward pass, through these hooks.

        Args:
            modulation: the hooks in force.
            fused: the loss of the fused logits, 0-d with gradient.
            output: the forward pass.
        """
        batch = output.batch
        modulation.backward(modulation.on_losses({"fused": fused}, output, batch, self), self)
        self.average_gradients()
        modulation.on_gradients(output, batch, self)
        self.modulation.observe(output, batch, self)

    def backward(self, loss: Tensor | int) -> None:
        if isinstance(loss, Tensor):
            loss.backward()

    def gradients(self, losses: Losses, create_graph: bool = False) -> dict[str, list[Tensor]]:
        gradients: dict[str, list[Tensor]] = {}
        for k, (name, loss) in enumerate(losses.items()):
            grads = torch.autograd.grad(
                loss,
                self.parameters,
                retain_graph=create_graph or k + 1 < len(losses),
                create_graph=create_graph,
                allow_unused=True,
            )
            filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, grads, strict=True)]
            gradients[name] = filled if create_graph and self.replicas.world == 1 else self.replicas.average(filled)
        return gradients

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.optimization.parameters

    def average_gradients(self) -> None:
        self.optimization.average()

    def zero_gradients(self) -> None:
        self.optimization.zero()

    def optimizer_step(self, only: Iterable[nn.Parameter] | None = None) -> None:
        self.optimization.step(only)

    def scale_lr(self, modality: str, factor: Tensor | float, policy: Policy = "encoder") -> None:
        self.optimization.scale(self.model.parameters_of(modality, policy), factor)

    def scale_lr_of(self, parameters: list[nn.Parameter], factor: Tensor | float) -> None:
        self.optimization.scale(parameters, factor)

    def autocast(self) -> AbstractContextManager[object]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def shared_generator(self, purpose: str) -> torch.Generator:
        self._generator.manual_seed(derive(self.seed, purpose, self.epoch, self.step))
        return self._generator

    def shared_uniform(self, purpose: str, *shape: int) -> Tensor:
        return self._draws.uniform(self.seed, purpose, self.step, shape)

    def shared_normal(self, purpose: str, like: Sequence[Tensor]) -> Iterator[Tensor]:
        if self.on_cpu and sum(x.numel() for x in like) > MANY:  # all at once would leave the caches
            generator = self.shared_generator(purpose)
            for x in like:
                yield shaped(x.new_empty(x.numel()).normal_(generator=generator), x)
        else:
            yield from self._draws.normal(self.seed, purpose, self.step, like)

    def shared_coin(self, purpose: str, probability: float) -> bool:
        return probability >= 1 or derive(self.seed, purpose, self.epoch, self.step) < probability * 2**63

    def log(self, name: str, values: Mapping[str, Tensor] | Values | float) -> None:
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
        means = {
            name: torch.stack([torch.as_tensor(v) for v in values]).double().mean(0)
            for name, values in self._logged.items()
        }
        named: dict[str, float] = {}
        self._logged = {}
        numbers = iter(_numbers(list(means.values())))
        for name, mean in means.items():
            if mean.dim():
                named |= {f"modulation/{name}/{m}": next(numbers) for m in self.model.modalities}
            else:
                named[f"modulation/{name}"] = next(numbers)
        return named


def _numbers(tensors: Sequence[Tensor]) -> list[float]:
    """Return the values of all tensors, one after another; those on a device are read at once."""
    there = [x.reshape(-1) for x in tensors if x.device.type != "cpu"]
    read = iter(torch.cat(there).tolist() if there else [])
    values: list[float] = []
    for x in tensors:
        values += x.reshape(-1).tolist() if x.device.type == "cpu" else [next(read) for _ in range(x.numel())]
    return values
