"""The same training twice: by the project's own loop, and by a plain PyTorch loop with a balancer in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune import balance
from balance_tune.balancing.balancer import Balancer
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.seeds import derive
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from balance_tune.training.run import Run

EPOCHS, LR, MOMENTUM, DECAY = 3, 0.05, 0.9, 1e-4
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


def weights_of(run: Run) -> dict[str, Tensor]:
    modules = {f"modules.{name}": x for name, x in run.context.modules.state_dict().items()}
    return {**run.context.model.state_dict(), **modules}


def by_own_loop(
    method: str, settings: Mapping[str, Any], **how: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights after three epochs of the project's loop, and each epoch's metrics."""
    run, modulation = tiny_run(method, settings, momentum=MOMENTUM, weight_decay=DECAY, lr=LR, epochs=EPOCHS, **how)
    metrics = list(train(run, modulation))
    return weights_of(run), metrics


def tiny_model(**how: Any) -> tuple[MultimodalModel, Run]:
    """A model with the weights that a tiny run starts from, and a run of joint training that serves its batches."""
    run, _ = tiny_run("joint", {}, lr=LR, epochs=EPOCHS, **how)
    return run.context.model, run


def train_plainly(
    balancer: Balancer, model: nn.Module, optimizer: torch.optim.Optimizer, source: Run, epochs: range
) -> None:
    """A user's loop over the batches of another run, which does not train."""
    for epoch in epochs:
        torch.manual_seed(derive(0, "forward", epoch, 0))  # dropout as in the project's loop
        model.train()
        source.context.epoch = epoch
        with balancer.epoch(epoch):
            for batch in source.context.planned(source.context.plan()):
                optimizer.zero_grad()
                step = balancer.forward(batch.inputs, batch.labels)
                balancer.backward(step.loss)
                optimizer.step()


def by_plain_loop(
    method: str | Modulation, settings: Mapping[str, Any], optimizer_of: MakeOptimizer = sgd, **how: Any
) -> tuple[dict[str, Tensor], Balancer]:
    """The weights after three epochs of a plain loop, and its balancer."""
    model, source = tiny_model(**how)
    optimizer = optimizer_of(list(model.parameters()))
    balancer = balance(model, optimizer, method, epochs=EPOCHS, **settings)
    train_plainly(balancer, model, optimizer, source, range(EPOCHS))
    modules = {f"modules.{name}": x for name, x in balancer.state_dict()["modules"].items()}
    return {**model.state_dict(), **modules}, balancer


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference between two models' weights and buffers."""
    assert list(one) == list(other)
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
