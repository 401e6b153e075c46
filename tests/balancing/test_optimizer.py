"""A user's optimiser: a scaled learning rate is that rate, or it is refused; a method's parameters join a group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune import balance
from balance_tune.balancing.optimizer import LINEAR, UserOptimizer
from balance_tune.errors import UserError
from balance_tune.models.fusion import Concat
from tests.balancing.own_loop import EPOCHS, LR, by_own_loop, distance, sgd, tiny_model, train_plainly

SETTINGS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.5}, "Rprop": {}}


def after_three_steps(cls: type[torch.optim.Optimizer], rate: float, factor: float | None) -> list[Tensor]:
    """The matrices of a tiny model after three steps at a rate, or at a multiple of it by `scale`."""
    model, _ = tiny_model()
    weights = [p for p in model.parameters() if p.dim() == 2]
    for p in model.parameters():
        p.requires_grad_(p.dim() == 2)
    optimizer = cls(weights, lr=rate, **SETTINGS.get(cls.__name__, {"weight_decay": 0.1}))
    ours = UserOptimizer(optimizer, model, nn.ModuleDict(), [], weights[0], "it")
    for i in range(3):
        for k, p in enumerate(weights):
            p.grad = torch.linspace(-1, 2, p.numel(), dtype=p.dtype).add(i + k).sin().view_as(p)
        if factor is not None:
            ours.begin()
            ours.scale(weights, factor)
        optimizer.step()
    return weights


@pytest.mark.parametrize("cls", LINEAR, ids=lambda cls: cls.__name__)
def test_a_scaled_step_is_a_scaled_learning_rate(cls: type[torch.optim.Optimizer]) -> None:
    expected, start = after_three_steps(cls, 0.003, None), after_three_steps(cls, 0.0, None)
    for p, q, before in zip(after_three_steps(cls, 0.01, 0.3), expected, start, strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-9)
        assert not torch.allclose(p, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cls", [torch.optim.Rprop, torch.optim.ASGD, torch.optim.Adafactor], ids=lambda c: c.__name__)
def test_an_optimiser_with_another_kind_of_rate_is_refused(cls: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(UserError, match=f"it scales learning rates, .* but got {cls.__name__}; use one of them"):
        after_three_steps(cls, 0.01, 0.3)


def test_accumulated_gradients_are_refused_only_where_the_rate_is_scaled() -> None:
    for settings, refused in (({"apply_to": "lr"}, True), ({}, False)):
        model, source = tiny_model()
        optimizer = sgd(list(model.parameters()))
        balancer = balance(model, optimizer, "mlb", **settings)
        batches = list(source.context.planned(source.context.plan()))
        with balancer.epoch(0):
            balancer.backward(balancer.forward(batches[0].inputs, batches[0].labels).loss)
            step = balancer.forward(batches[1].inputs, batches[1].labels)
            if refused:
                with pytest.raises(UserError, match=r"call `optimizer.step\(\)` after every `balancer.backward`"):
                    balancer.backward(step.loss)
            else:
                balancer.backward(step.loss)


def test_accumulated_gradients_are_the_sum_of_the_steps_own() -> None:
    model, source = tiny_model()
    balancer = balance(model, sgd(list(model.parameters())), "ogm", alpha=0.8, epochs=EPOCHS)
    batches = list(source.context.planned(source.context.plan()))[:2]
    separate = []
    with balancer.epoch(0):
        for batch in batches:
            model.zero_grad()
            balancer.backward(balancer.forward(batch.inputs, batch.labels).loss)
            separate.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        for batch in batches:
            balancer.backward(balancer.forward(batch.inputs, batch.labels).loss)
    for p, one, other in zip(model.parameters(), *separate, strict=True):
        assert torch.allclose(p.grad, one + other)  # type: ignore[arg-type]


def test_a_methods_parameters_join_the_group_of_the_head_under_a_scheduler_too() -> None:
    model, source = tiny_model()
    optimizer = torch.optim.SGD(
        [{"params": list(model.encoders.parameters())}, {"params": list(model.fusion.parameters()), "lr": 0.02}], lr=0.1
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    balancer = balance(model, optimizer, "multi_loss")
    heads = balancer.state_dict()["modules"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [
        len(list(model.encoders.parameters())),
        len(list(model.fusion.parameters())) + len(heads),
    ]
    before = {name: x.clone() for name, x in heads.items()}
    train_plainly(balancer, model, optimizer, source, range(1))
    scheduler.step()
    assert all(not torch.equal(x, before[name]) for name, x in balancer.state_dict()["modules"].items())


def test_parameters_with_a_rate_of_their_own_need_to_come_before_the_scheduler() -> None:
    model, _ = tiny_model()
    optimizer = sgd(list(model.parameters()))
    balance(model, optimizer, "cggm", classifier_lr=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [LR, LR / 2]
    model, _ = tiny_model()
    optimizer = sgd(list(model.parameters()))
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(UserError, match="call `balance` before the scheduler is made"):
        balance(model, optimizer, "cggm")


def test_adagrad_serves_methods_without_parameters_of_their_own() -> None:
    model, source = tiny_model()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    train_plainly(balance(model, optimizer, "ogm", alpha=0.8, epochs=EPOCHS), model, optimizer, source, range(1))
    with pytest.raises(UserError, match="Adagrad would have no state"):
        balance(model, optimizer, "multi_loss")


def test_an_optimiser_without_all_parameters_or_of_another_kind_is_refused() -> None:
    model, _ = tiny_model()
    with pytest.raises(UserError, match=r"must hold every trained parameter .* `fusion\.head\.weight`"):
        balance(model, sgd(list(model.encoders.parameters())), "amco")
    assert isinstance(model.fusion, Concat)  # nothing was changed before the refusal
    with pytest.raises(UserError, match="LBFGS computes a loss several times"):
        balance(model, torch.optim.LBFGS(model.parameters()), "joint")
    with pytest.raises(UserError, match=r"must be a torch.optim.Optimizer, but got a str"):
        balance(model, "sgd", "joint")  # type: ignore[arg-type]


def test_frozen_parameters_need_not_be_in_the_optimiser() -> None:
    model, source = tiny_model()
    model.encoders["audio"].requires_grad_(False)
    optimizer = sgd([p for p in model.parameters() if p.requires_grad])
    before = {name: x.clone() for name, x in model.encoders["audio"].state_dict().items()}
    train_plainly(balance(model, optimizer, "mlb"), model, optimizer, source, range(1))
    assert all(torch.equal(x, before[name]) for name, x in model.encoders["audio"].state_dict().items())


def test_adam_agrees_with_the_projects_own_loop() -> None:
    model, source = tiny_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)
    balancer = balance(model, optimizer, "ogm", apply_to="lr", epochs=EPOCHS)
    train_plainly(balancer, model, optimizer, source, range(EPOCHS))
    expected, _ = by_own_loop("ogm", {"apply_to": "lr"}, optimizer="adam")
    assert distance(expected, model.state_dict()) < 1e-6
