"""Twenty epochs of AV-Digits against plain PyTorch loops, one with a two-worker DataLoader: python -m benchmarks.epochs

Every variant lives in a process of its own, so that what ours settles there (memory that is kept, say) helps no other,
and trains once before it is measured. The DataLoaders' two workers live as long as a training (`persistent_workers`),
which starts them, as every trial of a study would; a second base has them running before its clock starts. All train
the same model with the same settings and know the loss of training and the loss and accuracy of validation after every
epoch; ours also knows each modality's. All have one thread, but for one row of each kind: the loop's processes keep two
cores busy, and so may ours with `cpus_per_trial: 2`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from balance_tune.datasets.store import open_store
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.execution.process import configure_process
from balance_tune.training.loop import train
from balance_tune.training.setup import model_spec, prepare
from benchmarks.table import Table, show, spread
from benchmarks.trials import configuration, store_of

EPOCHS, BATCH = 20, 64
BATCH_IN_MEMORY = 256  # of validation
Batches = Iterable[Sequence[Tensor]]
Loader = DataLoader[tuple[Tensor, ...]]


def trial() -> float:
    """Return the seconds of a joint trial from configuration to the last epoch's metrics."""
    began = time.perf_counter()
    run, modulation = prepare(configuration("av_digits", "joint", {}, epochs=EPOCHS, lr=0.05))
    for _ in train(run, modulation):
        pass
    return time.perf_counter() - began


def loader(part: str, workers: int) -> Loader:
    """Return a part's batches as most would load them."""
    settings: dict[str, Any] = {}
    if workers:  # forked, as Linux's default is; here it would be spawned, as this process itself was
        settings = {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": "fork"}
    return DataLoader(samples(part), BATCH, shuffle=part == "train", **settings)


def in_memory(part: str) -> Batches:
    """Return a part's batches, large and in order."""
    return list(zip(*(x.split(BATCH_IN_MEMORY) for x in samples(part).tensors), strict=True))


def samples(part: str) -> TensorDataset:
    """Return (audio, image, label) of a part's samples."""
    found = open_store(store_of("av_digits")).parts[part]
    return TensorDataset(found.inputs["audio"], found.inputs["image"], found.labels)


class Shuffled:
    """Batches indexed out of tensors, in another order each time."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        for rows in torch.randperm(len(self.data)).split(BATCH):
            yield [x[rows] for x in self.data.tensors]


def plain(batches: Batches, validation: Batches) -> float:
    """Return the seconds of the same training as one would write it, evaluated after every epoch."""
    config, data = configuration("av_digits", "joint", {}), open_store(store_of("av_digits"))
    began = time.perf_counter()
    model = model_spec(config, data).build(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        model.train()
        total = 0.0
        for audio, image, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model({"audio": audio, "image": image}), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        schedule.step()
        evaluated(model, validation)
    return time.perf_counter() - began


@torch.no_grad()
def evaluated(model: MultimodalModel, batches: Batches) -> tuple[float, float]:
    """Return (loss, accuracy)."""
    model.eval()
    loss, hits, seen = 0.0, 0, 0
    for audio, image, labels in batches:
        logits = model({"audio": audio, "image": image})
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        hits += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return loss / seen, hits / seen


def ours(cpus: int) -> Callable[[], float]:
    configure_process(cpus)  # as the process of a trial does
    return trial


def loading(threads: int) -> Callable[[], float]:
    torch.set_num_threads(threads)
    return lambda: plain(loader("train", 2), loader("val", 2))


VARIANTS: dict[str, Callable[[], Callable[[], float]]] = {  # each makes, in its process, what trains and is timed
    "PyTorch loop, DataLoaders with 2 persistent workers": lambda: loading(1),
    "the same, its workers started before the clock": lambda: partial(plain, loader("train", 2), loader("val", 2)),
    "the first, with two threads": lambda: loading(2),
    "PyTorch loop, DataLoaders without workers": lambda: partial(plain, loader("train", 0), loader("val", 0)),
    "PyTorch loop, all from memory": lambda: partial(plain, Shuffled(samples("train")), in_memory("val")),
    "balance_tune": lambda: ours(1),
    "balance_tune, with two threads": lambda: ours(2),
}


def _serve(name: str, asked: Connection) -> None:
    """Be a variant's process: train once, then once more each time it is asked to, and answer with the seconds."""
    torch.set_num_threads(1)
    run = VARIANTS[name]()
    run()
    while asked.recv():
        asked.send(run())


@contextmanager
def processes() -> Iterator[dict[str, Connection]]:
    """Start a process for each variant, and end them afterwards."""
    spawn = multiprocessing.get_context("spawn")
    connections, started = {}, []
    for name in VARIANTS:
        connections[name], theirs = spawn.Pipe()
        started.append(spawn.Process(target=_serve, args=(name, theirs)))
        started[-1].start()
        theirs.close()  # so that its end is noticed here
    try:
        yield connections
        for connection in connections.values():
            connection.send(False)
    finally:
        for connection in connections.values():
            connection.close()
        for process in started:
            process.join(60)


def measure(rounds: int = 5) -> Table:
    """Return the table of wall time; the variants take turns."""
    store_of("av_digits")
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with processes() as connections:
        for warm in [True, *[False] * rounds]:  # the first turn also waits until all have trained once
            for name, connection in connections.items():
                connection.send(True)
                seconds = connection.recv()
                if not warm:
                    times[name].append(seconds)
    bases = list(times.values())[:2]
    rows = [
        [name, spread(t), *(spread([b / a for a, b in zip(t, base, strict=True)]) for base in bases)]
        for name, t in times.items()
    ]
    return Table(
        "Twenty epochs of AV-Digits",
        "Wall seconds of joint training with validation after every epoch, from the configuration to the last epoch's "
        "metrics, and how many times faster than the DataLoaders with two workers, in the same round; one thread where "
        "the row does not say two.",
        ("variant", "s", "times faster than the first", "than the second"),
        rows,
    )


if __name__ == "__main__":
    show(measure())
