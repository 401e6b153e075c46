"""The pretended device refuses what a real one refuses, and notices when the host waits for it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from balance_tune.training.setup import resolve_device
from tests.device.pretended import DEVICE, Recorder, pretended


@pytest.fixture
def device() -> Iterator[Recorder]:
    with pretended() as recorder:
        yield recorder


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "an operand on the CPU": lambda x: x + torch.ones(3),
    "an index into data on the CPU": lambda x: torch.ones(3)[torch.zeros(1, dtype=torch.long, device="cuda")],
    "rows by an index on the CPU": lambda x: x.index_select(0, torch.zeros(1, dtype=torch.long)),
    "an output on the CPU": lambda x: torch.index_select(x, 0, x.long(), out=torch.empty(3)),
    "a layer on the CPU": lambda x: nn.Linear(3, 2)(x),
    "a generator of the CPU": lambda x: torch.rand(3, device="cuda", generator=torch.Generator()),
    "a generator of the device": lambda x: torch.rand(3, generator=torch.Generator("cuda")),
    "a numpy array": lambda x: x.numpy(),
    "labels on the CPU": lambda x: nn.functional.cross_entropy(x.view(1, 3), torch.zeros(1, dtype=torch.long)),
    "concatenation": lambda x: torch.cat([x, torch.ones(3)]),
}
WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "bincount": lambda x: x.long().bincount(),
    "a number made into a tensor there": lambda x: torch.as_tensor(0.5, device=x.device),
    "a single row by a tensor": lambda x: x[x.argmax()],
    "copy from the host": lambda x: torch.ones(3).to("cuda"),
    "index on the host": lambda x: x[torch.tensor([0, 1])],
    "synchronize": lambda x: torch.cuda.synchronize(),
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2 + 1).sum(),
    "where with a number": lambda x: torch.where(x > 0, x, 1.0),
    "a number beside it": lambda x: x * torch.tensor(2.0),
    "copy without waiting": lambda x: torch.ones(3).to("cuda", non_blocking=True),
    "made there": lambda x: torch.full((), 0.5, device="cuda"),
    "to where it is": lambda x: x.to("cuda"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_it_refuses(call: Callable[[Tensor], object], device: Recorder) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"device|generator|convert"):
        call(torch.ones(3).to("cuda"))


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
def test_it_notices_that_the_host_waits(call: Callable[[Tensor], object], device: Recorder) -> None:
    x = torch.ones(3, device="cuda")
    call(x)
    assert len(device.of("epoch")) == 1


@pytest.mark.parametrize("call", FREE.values(), ids=FREE)
def test_it_lets_the_rest_pass(call: Callable[[Tensor], object], device: Recorder) -> None:
    x = torch.ones(3, device="cuda")
    call(x)
    assert not device.events


class Peeking(Modulation):
    """Reads its scores on the host, in every step."""

    name = ""

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        ctx.score_vector.sum().item()


def test_a_wait_inside_a_step_is_told_from_one_of_the_epoch(device: Recorder) -> None:
    run, _ = tiny_run("joint", device="cuda", epochs=2)
    device.events.clear()
    list(train(run, Peeking()))
    assert list(device.of("step").values()) == [6]  # two epochs of three steps
    assert device.of("epoch")


def test_tensors_of_it_behave_as_tensors(device: Recorder) -> None:
    x = torch.arange(6.0, requires_grad=True)
    y = x.to("cuda").view(2, 3)
    y[:, 1].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0, 0, 1, 0]
    assert (y.device, y.is_cuda, y.to("cuda") is y, y.dtype) == (DEVICE, True, True, torch.float32)
    z = torch.zeros(2, 3, device="cuda")
    z[0] = 2.0
    z[:, 2] += 1
    assert z.tolist() == [[2, 2, 3], [0, 0, 1]]
    with torch.inference_mode():
        assert (z @ z.T).tolist() == [[17, 3], [3, 1]]
    with torch.autocast("cuda", torch.bfloat16):
        assert nn.Linear(3, 2).to("cuda")(z).dtype == torch.bfloat16


def test_draws_on_it_leave_the_generator_of_the_cpu_alone(device: Recorder) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    torch.nn.functional.dropout(torch.ones(100, device="cuda"))
    assert torch.equal(before, torch.get_rng_state())


def test_threads_that_are_started_have_it_too(device: Recorder) -> None:
    places: list[torch.device] = []

    class Own(threading.Thread):
        def run(self) -> None:
            places.append(torch.ones(2).to("cuda").device)

    for thread in (threading.Thread(target=lambda: places.append(torch.ones(2).to("cuda").device)), Own()):
        thread.start()
        thread.join()
    assert places == [DEVICE] * 2


def test_what_is_saved_from_it_needs_a_place_where_there_is_none() -> None:
    file = io.BytesIO()
    with pretended():
        torch.save({"w": torch.ones(2, device="cuda")}, file)
        file.seek(0)
        assert torch.load(file, map_location="cuda", weights_only=True)["w"].device == DEVICE
    file.seek(0)
    assert torch.load(file, map_location="cpu", weights_only=True)["w"].tolist() == [1, 1]
    file.seek(0)
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        torch.load(file, weights_only=True)


def test_it_is_gone_at_the_end() -> None:
    before = torch.cuda.is_available()
    with pretended():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() == before
    assert torch.ones(2).sum().item() == 2


@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:0"])
def test_the_chosen_device_has_its_index(device: Recorder, asked: str) -> None:
    """`cuda` and `cuda:0` compare unequal, so that data on one would count as data elsewhere."""
    assert resolve_device(asked) == torch.device("cuda", 0) == torch.ones(1, device="cuda").device
