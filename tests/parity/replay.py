"""A run of ours and a copy of it that plain code trains on the same batches with torch's own optimisers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.step import JOINT

EPOCHS = 8  # of three steps
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 1e-3},
}


class Replay:
    """What the plain code works on; nothing of the method under test is used.

    Attributes:
        model, modules: copies of the run's, with the same start.
        ctx: of the run, for its held-out rows and for the random numbers that both sides share.
        epoch, step: under way.
        memory: whatever a step keeps for later ones.
    """

    def __init__(
        self, run: Any, groups: Callable[[Replay], list[dict[str, Any]]] | None, training: dict[str, Any]
    ) -> None:
        self.ctx = run.context
        self.model, self.modules = copy.deepcopy(run.context.model), copy.deepcopy(run.context.modules)
        self.names = list(run.context.model.modalities)
        self.epoch = self.step = 0
        self.memory: dict[str, Any] = {}
        parameters = [p for p in [*self.model.parameters(), *self.modules.parameters()] if p.requires_grad]
        kw = {"lr": training["lr"], "weight_decay": training["weight_decay"]}
        given = groups(self) if groups else parameters
        self.optimizer: torch.optim.Optimizer
        if training["optimizer"] == "sgd":
            self.optimizer = torch.optim.SGD(given, momentum=training["momentum"], **kw)
        else:
            self.optimizer = torch.optim.Adam(given, **kw)
        self.parameters = parameters

    # parts of a step -------------------------------------------------------------------------------------------------
    def features(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m: self.model.encoders[m](x[m]) for m in self.names}

    def weight(self, m: str) -> Tensor:
        """W_m (C, d_m) of a concat head."""
        head: Any = self.model.fusion.head
        ends = [0]
        for n in self.names:
            ends.append(ends[-1] + self.model.encoders[n].features)
        i = self.names.index(m)
        return head.weight[:, ends[i] : ends[i + 1]]

    @property
    def bias(self) -> Tensor:
        head: Any = self.model.fusion.head
        return head.bias

    def own(self, h: dict[str, Tensor]) -> dict[str, Tensor]:
        """f_m = W_m h_m + b / M of a concat head."""
        return {m: x @ self.weight(m).T + self.bias / len(self.names) for m, x in h.items()}

    def fused(self, h: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.model.fusion(h)
        return out

    def grads(self, m: str, dims: Callable[[Tensor], bool] = lambda p: True) -> list[Tensor]:
        return [p.grad for p in self.model.encoders[m].parameters() if p.grad is not None and dims(p)]

    def convolutions(self, m: str) -> list[Tensor]:
        """Gradients of 4-D weights, or of weights of two and more dimensions where an encoder has no 4-D ones."""
        four = any(p.dim() == 4 for p in self.model.encoders[m].parameters())
        return self.grads(m, lambda p: p.dim() == 4 if four else p.dim() >= 2)

    def update(self, loss: Tensor, change: Callable[[], None] | None = None) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        if change is not None:
            change()
        self.optimizer.step()


Step = Callable[[Replay, dict[str, Tensor], Tensor], None]


def truth(logits: Tensor, y: Tensor) -> Tensor:
    """Probability of the true class (B,)."""
    return F.softmax(logits, 1)[torch.arange(len(y)), y]


def compare(
    method: str,
    step: Step,
    settings: dict[str, Any] | None = None,
    *,
    optimizer: str = "momentum",
    modalities: int = 2,
    fusion: str = "concat",
    alike: bool = False,
    epochs: int = EPOCHS,
    epoch_start: Callable[[Replay], None] | None = None,
    groups: Callable[[Replay], list[dict[str, Any]]] | None = None,
    tolerance: float = 1e-6,
    slower: float = 1.0,
) -> None:
    """Train both sides, at `slower` times the learning rate; demand equal weights after every step."""
    training = {**OPTIMIZERS[optimizer], "lr": slower * OPTIMIZERS[optimizer]["lr"]}
    data = tiny_data(modalities, alike=alike)
    run, modulation = tiny_run(method, settings, data=data, fusion=fusion, epochs=epochs, **training)
    ctx, replay = run.context, Replay(run, groups, training)
    start = {n: p.detach().clone() for n, p in ctx.model.named_parameters()}
    steps = 0
    for epoch in range(epochs):
        ctx.epoch = replay.epoch = epoch
        ctx.model.train()
        replay.model.train()
        ctx.modules.train()
        ctx.optimization.set_rate(training["lr"])
        ctx.acting = modulation if modulation.acts(epoch, epochs) else JOINT
        plan = ctx.acting.plan_epoch(ctx.plan(), ctx)
        ctx.acting.on_epoch_start(ctx)
        if epoch_start is not None:
            epoch_start(replay)
            replay.model.train()
        for batch in ctx.planned(plan):
            replay.memory["batch"] = batch
            step(replay, batch.inputs, batch.labels)
            ctx.acting.train_step(batch, ctx)
            ctx.step += 1
            replay.step = ctx.step
            steps += 1
            same(ctx.model, replay.model, tolerance, steps)
        ctx.acting.on_epoch_end(ctx)
    assert steps >= 20
    assert all(not torch.equal(p, start[n]) for n, p in ctx.model.named_parameters() if p.requires_grad)


def same(ours: nn.Module, plain: nn.Module, tolerance: float, steps: int) -> None:
    expected = dict(plain.named_parameters())
    for name, p in ours.named_parameters():
        difference = (p - expected[name]).abs().max().item()
        assert difference <= tolerance, f"{name} differs by {difference:.2g} after {steps} steps"
