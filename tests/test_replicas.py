"""What several workers add, average and gather is what one worker would have had; shown with two real processes."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from balance_tune.datasets.base import Modality
from balance_tune.models.encoders import Encoder
from balance_tune.replicas import Replicas, SharedBatchNorm
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.testing.workers import Workers, WorkersFailed
from balance_tune.training.loop import train

ROWS = 7  # an odd number: one worker has more rows than the other


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    workers = Workers(2)
    yield workers
    workers.close()


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(channels: int, convolution: bool) -> nn.Sequential:
    """An encoder with BatchNorm in it, small, the same in every process."""
    torch.manual_seed(0)
    layers: list[nn.Module] = (
        [nn.Conv2d(2, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), nn.Linear(4 * channels, 2)]
        if convolution
        else [nn.Linear(2, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Linear(channels, 2)]
    )
    return nn.Sequential(*layers).double()


def images(convolution: bool) -> Tensor:
    return values((ROWS, 2, 4, 4)) if convolution else values((ROWS, 2))


class Normalised(Encoder):
    """An encoder with BatchNorm in it, as a user may name it by import path."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = 5
        self.stages.append(nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 5), nn.BatchNorm1d(5), nn.ReLU()))


# jobs: run in every worker -------------------------------------------------------------------------------------------
def add(replicas: Replicas | None = None) -> list[Tensor]:
    replicas = replicas or Replicas()
    mine = values((3,), seed=replicas.rank).requires_grad_()
    return list(replicas.sum(mine, torch.tensor(replicas.rank + 1), torch.ones(2, 2, dtype=torch.float32)))


def gather_unequal() -> Tensor:
    replicas = Replicas()
    return replicas.gather(torch.full((replicas.rank + 1, 2), float(replicas.rank)))


def gather_nothing_from_one() -> Tensor:
    replicas = Replicas()
    return replicas.gather(torch.ones(0 if replicas.rank else 2, 3, dtype=torch.int64))


def mean_gradients() -> list[Tensor | None]:
    """Of three parameters: one both workers use, one that only the first uses, one that none uses."""
    replicas = Replicas()
    both, first, none = (nn.Parameter(torch.ones(2)) for _ in range(3))
    loss = (both * (replicas.rank + 1.0)).sum()
    if replicas.rank == 0:
        loss = loss + (first * 4.0).sum()
    loss.backward()
    replicas.average_gradients([both, first, none])
    return [both.grad, first.grad, none.grad]


def average() -> list[Tensor]:
    replicas = Replicas()
    return replicas.average([torch.full((2,), float(replicas.rank)), torch.full((1, 1), 3.0)])


def broadcast() -> dict[str, Tensor]:
    replicas = Replicas()
    torch.manual_seed(replicas.rank)
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[1].running_mean += replicas.rank
    replicas.broadcast(module)
    return dict(module.state_dict())


def train_normalised(convolution: bool, momentum: float | None) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Three steps on this worker's rows, on the mean loss over all rows; weights and buffers, gradients, answers."""
    replicas = Replicas()
    model = network(3, convolution)
    for layer in model:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum
    replicas.share_batchnorm(model)
    x = images(convolution)
    mine = x[replicas.rank :: replicas.world]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(mine).square().sum() * replicas.world / ROWS).backward()
        replicas.average_gradients(model.parameters())
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
    model.eval()
    return dict(model.state_dict()), gradients, model(x).detach()


def train_normalised_encoders(method: str) -> tuple[dict[str, Tensor], list[float]]:
    """A tiny run of three epochs whose last batches are partial; weights with BatchNorm's buffers, accuracies."""
    data = tiny_data(2, train=21)
    data.manifest.modalities = {
        m: Modality(spec.shape, f"{__name__}:Normalised") for m, spec in data.manifest.modalities.items()
    }
    run, modulation = tiny_run(method, data=data)
    accuracies = [metrics["val/accuracy"] for metrics in train(run, modulation)]
    return dict(run.context.model.state_dict()), accuracies


def fail_in_the_second_worker() -> None:
    replicas = Replicas()
    if replicas.rank == 1:
        raise ZeroDivisionError("on purpose")
    replicas.sum(torch.ones(1))  # waits for the other in vain


# ---------------------------------------------------------------------------------------------------------------------
def test_one_worker_is_the_identity() -> None:
    replicas = Replicas()
    assert (replicas.rank, replicas.world) == (0, 1)
    (total,) = replicas.sum(torch.ones(2, requires_grad=True))
    assert torch.equal(total, torch.ones(2))
    assert not total.requires_grad
    assert torch.equal(replicas.gather(torch.arange(3)), torch.arange(3))
    network_ = nn.Sequential(nn.BatchNorm1d(2))
    assert isinstance(replicas.share_batchnorm(network_)[0], nn.BatchNorm1d)


def test_sums_are_over_all_workers_and_keep_shape_and_type(pair: Workers) -> None:
    for total, count, ones in pair.run(add):
        torch.testing.assert_close(total, values((3,), seed=0) + values((3,), seed=1))
        assert not total.requires_grad
        assert torch.equal(count, torch.tensor(3))
        assert torch.equal(ones, torch.full((2, 2), 2.0))


def test_gathered_rows_come_in_rank_order_however_many_each_has(pair: Workers) -> None:
    for gathered in pair.run(gather_unequal):
        assert torch.equal(gathered, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    for gathered in pair.run(gather_nothing_from_one):
        assert torch.equal(gathered, torch.ones(2, 3, dtype=torch.int64))


def test_a_gradient_that_one_worker_lacks_counts_as_zero(pair: Workers) -> None:
    for both, first, none in pair.run(mean_gradients):
        assert torch.equal(both, torch.full((2,), 1.5))
        assert torch.equal(first, torch.full((2,), 2.0))
        assert none is None


def test_tensors_are_averaged_one_by_one(pair: Workers) -> None:
    for half, three in pair.run(average):
        assert torch.equal(half, torch.full((2,), 0.5))
        assert torch.equal(three, torch.full((1, 1), 3.0))


def test_every_worker_begins_with_the_first_ones_parameters_and_buffers(pair: Workers) -> None:
    first, second = pair.run(broadcast)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first["1.running_mean"].any()


@pytest.mark.parametrize("convolution", [True, False], ids=["conv", "linear"])
@pytest.mark.parametrize("momentum", [0.1, None], ids=["momentum", "cumulative"])
def test_shared_batchnorm_equals_batchnorm_on_the_whole_batch(
    pair: Workers, convolution: bool, momentum: float | None
) -> None:
    whole = train_normalised(convolution, momentum)
    for shared in pair.run(train_normalised, convolution, momentum):
        for got, expected in zip(shared[:2], whole[:2], strict=True):
            assert got.keys() == expected.keys()
            for name in expected:
                torch.testing.assert_close(
                    got[name], expected[name], rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n} {m}"
                )
        torch.testing.assert_close(shared[2], whole[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["joint", "ogm_ge", "opm", "mlb"])
def test_encoders_with_batchnorm_train_alike_on_one_worker_and_on_two(pair: Workers, method: str) -> None:
    whole, accuracies = train_normalised_encoders(method)
    assert any("running_mean" in name for name in whole)
    for weights, own_accuracies in pair.run(train_normalised_encoders, method):
        assert own_accuracies == pytest.approx(accuracies)
        assert weights.keys() == whole.keys()
        for name, expected in whole.items():
            assert (weights[name].double() - expected.double()).abs().max() <= 1e-9, name


def test_shared_batchnorm_is_found_however_deep_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Replicas()
    monkeypatch.setattr(replicas, "world", 2)
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.ModuleDict({"a": nn.BatchNorm2d(2)}))
    names = list(model.state_dict())
    replicas.share_batchnorm(model)
    assert list(model.state_dict()) == names
    found = [type(m) for m in model.modules() if isinstance(m, SharedBatchNorm | nn.modules.batchnorm._BatchNorm)]
    assert found == [SharedBatchNorm, SharedBatchNorm]


def test_a_workers_exception_reaches_the_caller_and_the_next_job_runs() -> None:
    workers = Workers(2)
    with pytest.raises(WorkersFailed, match=r"worker 1: .*\n(.*\n)*.*ZeroDivisionError: on purpose"):
        workers.run(fail_in_the_second_worker)
    assert len(workers.run(average)) == 2
    workers.close()
