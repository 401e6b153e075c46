"""The balancer in a loop: what it refuses, what it keeps, its losses, and the loop of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import balance_tune
from balance_tune import balance
from balance_tune.errors import UserError
from balance_tune.modulations.ogm import Ogm
from balance_tune.registry import modulations
from tests.balancing.own_loop import EPOCHS, by_plain_loop, distance, sgd, tiny_model, train_plainly

PAGE = Path(__file__).parents[2] / "docs" / "own-loop.md"


def first_batch() -> tuple[Any, Any, dict[str, Tensor], Tensor]:
    model, source = tiny_model()
    batch = next(iter(source.context.planned(source.context.plan())))
    return model, sgd(list(model.parameters())), batch.inputs, batch.labels


def test_the_package_lists_what_it_has() -> None:
    assert set(balance_tune.__all__) <= set(dir(balance_tune))
    assert balance_tune.balance is balance
    assert balance_tune.Balancer.__name__ == "Balancer"
    with pytest.raises(AttributeError, match="no attribute 'balanse'"):
        getattr(balance_tune, "balanse")  # noqa: B009


def test_calls_in_another_order_are_refused() -> None:
    model, optimizer, inputs, labels = first_batch()
    balancer = balance(model, optimizer, "ogm", epochs=EPOCHS)
    with pytest.raises(UserError, match="no epoch has begun"):
        balancer.forward(inputs, labels)
    with balancer.epoch(0):
        with pytest.raises(UserError, match=r"needs a `balancer.forward` before it"):
            balancer.backward(torch.zeros(()))
        loss = balancer.forward(inputs, labels).loss
        balancer.backward(loss)
        with pytest.raises(UserError, match=r"needs a `balancer.forward` before it"):
            balancer.backward(loss)
        with pytest.raises(UserError, match="but image is missing"):
            balancer.forward({"audio": inputs["audio"]}, labels)
    with (
        pytest.raises(UserError, match=r"`0 <= epoch < epochs` must hold, but got \(epoch=3, epochs=3\)"),
        balancer.epoch(3),
    ):
        pass


@pytest.mark.parametrize("method", ["arl", "olm", "amco", "reconboost"])
def test_a_method_with_a_schedule_asks_for_the_length_of_the_run(method: str) -> None:
    model, optimizer, inputs, labels = first_batch()
    balancer = balance(model, optimizer, method)
    with balancer.epoch(0), pytest.raises(UserError, match=f"{method} needs the length of the run; pass it"):
        balancer.backward(balancer.forward(inputs, labels).loss)


def test_a_window_needs_the_length_of_the_run_and_a_part_of_it() -> None:
    model, optimizer, *_ = first_batch()
    with pytest.raises(UserError, match=r"ogm acts from 0 to 0.5 of the run; pass its length as `epochs`"):
        balance(model, optimizer, "ogm")
    with pytest.raises(UserError, match="ogm would change nothing: its window"):
        balance(model, optimizer, "ogm", epochs=3, start=0.4, end=0.5)


def test_an_unknown_method_and_setting_name_the_nearest() -> None:
    model, optimizer, *_ = first_batch()
    with pytest.raises(UserError, match="did you mean `ogm_ge`"):
        balance(model, optimizer, "ogm_gs")
    with pytest.raises(UserError, match="alpha"):
        balance(model, optimizer, "ogm", alhpa=0.8)
    with pytest.raises(UserError, match="but got a method and alpha; drop them"):
        balance(model, optimizer, Ogm(), alpha=0.8)


def test_a_loss_of_ones_own_is_used_for_every_term() -> None:
    def smooth(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")

    model, optimizer, inputs, labels = first_batch()
    balancer = balance(model, optimizer, "multi_loss", loss=smooth)
    with balancer.epoch(0):
        step = balancer.forward(inputs, labels)
        assert torch.allclose(step.loss, F.cross_entropy(step.logits, labels, label_smoothing=0.2))
        balancer.backward(step.loss)
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(model(inputs), labels, label_smoothing=0.2), [model.fusion.head.weight]
    )
    assert torch.allclose(model.fusion.head.weight.grad, gradient)
    for m, head in balancer._context.modules.items():
        own = F.cross_entropy(head(step.features[m].detach()), labels, label_smoothing=0.2)
        (gradient,) = torch.autograd.grad(own, [head.get_parameter("weight")])
        assert torch.allclose(head.get_parameter("weight").grad, gradient)


def test_a_further_term_in_the_users_loss_is_trained() -> None:
    model, optimizer, inputs, labels = first_batch()
    balancer = balance(model, optimizer, "joint")
    with balancer.epoch(0):
        step = balancer.forward(inputs, labels)
        balancer.backward(step.loss + step.features["audio"].square().sum())
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (F.cross_entropy(model(inputs), labels) + model.encode(inputs)["audio"].square().sum()).backward()
    for gradient, p in zip(plain, model.parameters(), strict=True):
        assert torch.allclose(gradient, p.grad)


def test_a_run_goes_on_from_its_state() -> None:
    expected, _ = by_plain_loop("olm", {})
    model, source = tiny_model()
    optimizer = sgd(list(model.parameters()))
    balancer = balance(model, optimizer, "olm", epochs=EPOCHS)
    train_plainly(balancer, model, optimizer, source, range(2))
    state = [model.state_dict(), optimizer.state_dict(), balancer.state_dict()]
    model, source = tiny_model(seed=0)
    optimizer = sgd(list(model.parameters()))
    balancer = balance(model, optimizer, "olm", epochs=EPOCHS, seed=0)
    model.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    balancer.load_state_dict(state[2])
    train_plainly(balancer, model, optimizer, source, range(2, EPOCHS))
    modules = {f"modules.{name}": x for name, x in balancer.state_dict()["modules"].items()}
    assert distance(expected, {**model.state_dict(), **modules}) < 1e-12


def test_a_methods_own_passes_run_in_the_loops_autocast() -> None:
    model, optimizer, inputs, labels = first_batch()
    model.float()
    balancer = balance(model, optimizer, "mlb")
    types: list[torch.dtype] = []
    head = balancer._context.modules["audio"]
    head.register_forward_hook(lambda module, x, y: types.append(y.dtype))
    with balancer.epoch(0):
        for precise in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
                step = balancer.forward({m: x.float() for m, x in inputs.items()}, labels)
            balancer.backward(step.loss)
    assert types == [torch.bfloat16, torch.float32]


def test_distributed_training_is_refused() -> None:
    model, optimizer, *_ = first_batch()

    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:
            nn.Module.__init__(self)
            self.module = module

    with pytest.raises(UserError, match="works in one process, but training is distributed"):
        balance(Wrapped(model), optimizer, "joint")


def test_the_documentation_names_the_methods_that_change_the_model() -> None:
    (sentence,) = re.findall(r"Methods that change the model \((.*?)\)", PAGE.read_text(), re.DOTALL)
    ours = {n: cls for n, cls in modulations().classes().items() if cls.__module__.startswith("balance_tune.")}
    changing = {n for n, cls in ours.items() if not cls.windowed and n != "unimodal" and not cls().beyond_step()}
    assert set(re.findall(r"`(\w+)`", sentence)) == changing | {"unimodal"}


def test_the_loops_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)  # Lightning writes its logs there
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["balancer"].state_dict()["step"] == 5
    assert names["trainer"].callback_metrics.keys() >= {"modulation/k/audio", "modulation/k/image"}
