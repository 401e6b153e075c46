"""Twenty epochs of AV-Digits against a plain PyTorch loop with a two-worker DataLoader: python -m benchmarks.epochs

Every variant lives in a process of its own, so that what ours settles there (memory that is kept, say) helps no other,
and trains once before it is measured. All have one thread, train the same model with the same settings, and know the
loss of training and the loss and accuracy of validation after every epoch; ours also knows each modality's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from balance_tune.datasets.store import open_store
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.process import settle
from balance_tune.training.loop import train
from balance_tune.training.setup import model_spec, prepare
from benchmarks.table import Table, show, spread
from benchmarks.trials import configuration, store_of

EPOCHS = 20
Loader = DataLoader[tuple[torch.Tensor, ...]]
VARIANTS: dict[str, int | None] = {  # workers of the DataLoader; None: no DataLoader
    "PyTorch loop, DataLoader with 2 persistent workers": 2,
    "PyTorch loop, DataLoader without workers": 0,
    "balance_tune": None,
}


def ours() -> float:
    """Return the seconds of a joint trial from configuration to the last epoch's metrics."""
    began = time.perf_counter()
    run, modulation = prepare(configuration("av_digits", "joint", {}, epochs=EPOCHS, lr=0.05))
    for _ in train(run, modulation):
        pass
    return time.perf_counter() - began


def plain(workers: int) -> float:
    """Return the seconds of the same training as one would write it: DataLoader, SGD, evaluation in batches."""
    config = configuration("av_digits", "joint", {})
    data = open_store(Path(store_of("av_digits")))
    began = time.perf_counter()
    model = model_spec(config, data).build(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    loaders = {
        name: DataLoader(
            TensorDataset(part.inputs["audio"], part.inputs["image"], part.labels),
            batch_size=64,
            shuffle=name == "train",
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for name, part in data.parts.items()
        if name in ("train", "val")
    }
    for _ in range(EPOCHS):
        model.train()
        total = 0.0
        for audio, image, labels in loaders["train"]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model({"audio": audio, "image": image}), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        schedule.step()
        evaluated(model, loaders["val"])
    return time.perf_counter() - began


@torch.no_grad()
def evaluated(model: MultimodalModel, loader: Loader) -> tuple[float, float]:
    """Return (loss, accuracy)."""
    model.eval()
    loss, hits, seen = 0.0, 0, 0
    for audio, image, labels in loader:
        logits = model({"audio": audio, "image": image})
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        hits += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return loss / seen, hits / seen


def _serve(workers: int | None, asked: Connection) -> None:
    """Be a variant's process: train once, then once more each time it is asked to, and answer with the seconds."""
    if workers is None:
        settle(1)  # as the process of a trial does
    torch.set_num_threads(1)

    def run() -> float:
        return ours() if workers is None else plain(workers)

    run()
    while asked.recv():
        asked.send(run())


@contextmanager
def processes() -> Iterator[dict[str, Connection]]:
    """Start a process for each variant, and end them afterwards."""
    spawn = multiprocessing.get_context("spawn")
    connections, started = {}, []
    for name, workers in VARIANTS.items():
        connections[name], theirs = spawn.Pipe()
        started.append(spawn.Process(target=_serve, args=(workers, theirs)))
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
    base = next(iter(times.values()))
    rows = [[n, spread(t), spread([b / a for a, b in zip(t, base, strict=True)])] for n, t in times.items()]
    return Table(
        "Twenty epochs of AV-Digits",
        "Wall seconds of joint training with validation after every epoch, one thread, and how many times faster than "
        "the two-worker DataLoader in the same round.",
        ("variant", "s", "times faster"),
        rows,
    )


if __name__ == "__main__":
    show(measure())
