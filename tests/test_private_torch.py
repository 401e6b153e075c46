"""torch beyond its documented interface: the same numbers with it and, where a name is gone, without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune.private_api import report_missing
from balance_tune.private_torch import batch_norms, eager_step, foreach, process_flags, spare_the_compiler
from balance_tune.training.sgd import Sgd


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adam])
def test_the_step_updates_as_torchs_own_does(optimizer: type[torch.optim.Adam]) -> None:
    draws = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=draws), torch.randn(5, generator=draws)]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    step = eager_step(optimizer(ours, lr=0.1, weight_decay=0.01, fused=True))
    reference = optimizer(theirs, lr=0.1, weight_decay=0.01, fused=True)
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=draws)
            q.grad = p.grad.clone()
        step()
        reference.step()
    for p, q, before in zip(ours, theirs, start, strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_process_that_trains_does_not_import_torchs_compiler(optimizer: str, tmp_path: Path) -> None:
    """Which every process would pay for before its first step, in time and memory."""
    code = (
        "import pathlib, sys; from balance_tune.testing.tiny import tiny_run; "
        "from balance_tune.training.checkpoint import load_state, save_state; "
        "from balance_tune.training.loop import train; folder = pathlib.Path(sys.argv[1]); "
        f"run, method = tiny_run('ogm_ge', epochs=2, optimizer='{optimizer}'); list(train(run, method)); "
        "save_state(run, method, folder); print(load_state(run, method, folder), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


# without the private names: the same numbers, said once in the log ----------------------------------------------------
@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, and a process that has reported nothing missing yet."""
    report_missing.cache_clear()
    yield caplog
    report_missing.cache_clear()


def lists() -> tuple[list[Tensor], list[Tensor]]:
    draws = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (5,))
    return [torch.randn(s, generator=draws) for s in shapes], [torch.randn(s, generator=draws) for s in shapes]


CALLS: dict[str, Callable[[list[Tensor], list[Tensor]], tuple[Any, ...]]] = {
    "norm": lambda a, b: (),
    "add": lambda a, b: (b,),
    "sub": lambda a, b: (b,),
    "mul": lambda a, b: (torch.tensor(0.5),),
    "add_": lambda a, b: (b,),
    "copy_": lambda a, b: (b,),
    "mul_": lambda a, b: ([torch.tensor(2.0), torch.tensor(3.0)],),
    "addcmul_": lambda a, b: (b, b),
}


@pytest.mark.parametrize("operation", CALLS)
def test_operations_on_lists_are_done_one_by_one_where_torch_has_none(
    operation: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    results = []
    for gone in (False, True):
        if gone:
            monkeypatch.delattr(torch, f"_foreach_{operation}")
        tensors, others = lists()
        for _ in range(2 if gone and not operation.endswith("_") else 1):
            result = foreach(operation, tensors, *CALLS[operation](tensors, others))
        results.append(tensors if operation.endswith("_") else result)
        assert bool(log.messages) is gone
    for with_it, without in zip(*results, strict=True):
        torch.testing.assert_close(with_it, without)
    assert log.messages == [
        f"This version has no `torch._foreach_{operation}`: lists of tensors are changed one by one, which is slower."
    ]


def test_sgd_takes_torchs_own_step_where_its_function_is_gone(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    module = import_module("torch.optim.sgd")  # `torch.optim.sgd` is another name for it
    updated = []
    for gone in (False, True):
        parameters = [nn.Parameter(t) for t in lists()[0]]
        with monkeypatch.context() as patch:
            if gone:
                patch.delattr(module, "sgd")
            optimizer = Sgd([{"params": parameters}], lr=0.1, momentum=0.9, weight_decay=0.01, fused=True)
        for _ in range(3):
            for p, g in zip(parameters, lists()[1], strict=True):
                p.grad = g
            optimizer.update()
        updated.append(parameters)
    for p, q in zip(*updated, strict=True):
        assert torch.equal(p, q)
    assert log.messages == ["This version has no `torch.optim.sgd.sgd`: a step of SGD takes twice as long."]


def test_an_optimizer_whose_step_is_not_wrapped_steps_as_it_is(log: pytest.LogCaptureFixture) -> None:
    class Plain:
        def step(self) -> str:
            return "stepped"

    assert eager_step(Plain())() == "stepped"  # type: ignore[arg-type]
    assert log.messages == ["This version has no `Plain.step.__wrapped__`: a step of a small model takes longer."]


@pytest.mark.parametrize("gone", ["_disable_dynamo", "__wrapped__"])
def test_optimizers_import_the_compiler_where_it_cannot_be_avoided(
    gone: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    if gone == "_disable_dynamo":
        monkeypatch.delattr("torch._compile._disable_dynamo")
    else:
        monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self, set_to_none=True: None)
    spare_the_compiler()
    spare_the_compiler()
    (message,) = log.messages
    assert gone in message
    assert message.endswith("optimizers import torch's compiler, which takes 0.7 s and 110 MB per process.")


def test_a_mode_that_torch_does_not_tell_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    known = len(process_flags())
    monkeypatch.delattr(torch, "is_autocast_cache_enabled")
    assert len(process_flags()) == known - 1
    assert [read() for read, _ in process_flags()] == [True, False, False]
    assert "torch.is_autocast_cache_enabled" in log.text


def test_batch_norms_are_torchs_own_where_their_class_is_gone(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    layers = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.LayerNorm(2)]
    assert [isinstance(layer, batch_norms()) for layer in layers] == [True, True, True, False]
    monkeypatch.delattr(nn.modules.batchnorm, "_BatchNorm")
    assert [isinstance(layer, batch_norms()) for layer in layers] == [True, True, True, False]
    assert "torch.nn.modules.batchnorm._BatchNorm" in log.text
