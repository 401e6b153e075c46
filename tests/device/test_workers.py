"""Two workers whose process group serves the device alone, as NCCL's does, train as one worker does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.datasets.store import Data
from balance_tune.registry import modulations
from balance_tune.replicas import Replicas
from balance_tune.testing.tiny import tiny_run
from balance_tune.testing.workers import Workers, WorkersFailed
from balance_tune.training.loop import train
from tests.device.pretended import pretended
from tests.device.test_methods import METHODS, data_for
from tests.test_replicas import ROWS, images, network

# What a method does in a step that some parameters get no gradient in: a worker then asks the others, and waits.
PARTLY = {"mla", "reconboost", "remix"}


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    workers = Workers(2, backend="cuda:gloo")
    yield workers
    workers.close()


def of_cpu_tensors() -> None:
    Replicas().sum(torch.ones(2))


def of_device_tensors() -> list[Tensor]:
    """A sum, a gathering of unequal lengths and of types that few backends know, and an average."""
    with pretended():
        replicas = Replicas()
        rank = replicas.rank
        (total,) = replicas.sum(torch.full((2,), 1.0 + rank, device="cuda"))
        rows = replicas.gather(torch.full((1 + rank, 2), rank, dtype=torch.bool, device="cuda"))
        halves = replicas.gather(torch.full((2 - rank,), rank, dtype=torch.bfloat16, device="cuda"))
        (mean,) = replicas.average([torch.full((2, 1), float(rank), device="cuda")])
        return [x.cpu() for x in (total, rows, halves, mean)]


def normalised(momentum: float | None) -> tuple[dict[str, Tensor], int]:
    """Three steps of a network with batch normalisation; its weights and statistics, and how often the host waited."""
    with pretended() as device:
        replicas = Replicas()
        model = network(3, True).to("cuda")
        for layer in model:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = momentum
        replicas.broadcast(model)
        replicas.share_batchnorm(model)
        mine = images(True).to("cuda")[replicas.rank :: replicas.world]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        device.events.clear()
        for _ in range(3):
            optimizer.zero_grad()
            (model(mine).square().sum() * replicas.world / ROWS).backward()
            replicas.average_gradients(model.parameters())
            optimizer.step()
        waits = sum(device.events.values())
        return {name: t.cpu() for name, t in model.state_dict().items()}, waits


def trained(
    method: str, data: Data, variant: str | None
) -> tuple[list[dict[str, float]], dict[str, Tensor], dict[str, int]]:
    """Return what a tiny run on the device reports, its weights, and where its steps waited."""
    with pretended() as device:
        run, modulation = tiny_run(method, data=data, variant=variant, device="cuda", lr=0.05)
        device.events.clear()
        rows = list(train(run, modulation))
        weights = {name: t.cpu() for name, t in run.context.model.state_dict().items()}
        return rows, weights, device.of("step")


def test_such_a_group_refuses_tensors_of_the_cpu() -> None:
    workers = Workers(2, backend="cuda:gloo")
    with pytest.raises(WorkersFailed, match="No backend type associated with device type cpu"):
        workers.run(of_cpu_tensors)
    workers.close()


def test_collectives_run_on_the_device(pair: Workers) -> None:
    for total, rows, halves, mean in pair.run(of_device_tensors):
        assert total.tolist() == [3, 3]
        assert rows.tolist() == [[False, False], [True, True], [True, True]]
        assert halves.tolist() == [0, 0, 1]
        assert mean.tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize("momentum", [0.1, None], ids=["momentum", "cumulative"])
def test_batch_normalisation_over_workers_never_waits(pair: Workers, momentum: float | None) -> None:
    whole, _ = normalised(momentum)
    for weights, waits in pair.run(normalised, momentum):
        assert waits == 0
        for name, expected in whole.items():
            torch.testing.assert_close(weights[name], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_two_workers_equal_one_to_a_billionth(pair: Workers, method: str) -> None:
    usable = data_for(method, "concat", 2)
    assert usable is not None
    expected, weights, _ = trained(method, *usable)
    for rows, own, waits in pair.run(trained, method, *usable):
        assert bool(waits) == (method in PARTLY), waits
        for name, wanted in weights.items():
            assert (own[name].double() - wanted.double()).abs().max() <= 1e-9, name
        for row, before in zip(rows, expected, strict=True):
            same: dict[str, Any] = {k: v for k, v in before.items() if k not in ("device_seconds", "time/epoch_s")}
            assert row["train/loss"] == pytest.approx(before["train/loss"], abs=1e-9)
            assert {k: row[k] for k in same} == pytest.approx(same, abs=1e-6)  # answers are measured in float32


def test_no_exception_is_kept_for_a_method_that_is_gone() -> None:
    assert set(modulations().names()) >= PARTLY
