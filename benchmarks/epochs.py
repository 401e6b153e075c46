"""Twenty epochs of AV-Digits against a plain PyTorch loop with a two-worker DataLoader: python -m benchmarks.epochs"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import open_store
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.process import settle
from balance_tune.training.loop import train
from balance_tune.training.setup import model_spec, prepare
from benchmarks.table import Table, show, spread
from benchmarks.trials import configuration, store_of

EPOCHS = 20


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
        for audio, image, labels in loaders["train"]:
            optimizer.zero_grad()
            F.cross_entropy(model({"audio": audio, "image": image}), labels).backward()
            optimizer.step()
        schedule.step()
        _accuracy(model, loaders["val"], data.parts["val"])
    return time.perf_counter() - began


@torch.no_grad()
def _accuracy(model: MultimodalModel, loader: DataLoader[tuple[torch.Tensor, ...]], part: Part) -> float:
    model.eval()
    hits = sum(
        int((model({"audio": audio, "image": image}).argmax(1) == labels).sum()) for audio, image, labels in loader
    )
    return hits / len(part)


def measure(rounds: int = 3) -> Table:
    """Return the table of wall time; the variants take turns."""
    settle(1)  # as the process of a trial does
    variants = {
        "PyTorch loop, DataLoader with 2 persistent workers": lambda: plain(2),
        "PyTorch loop, DataLoader without workers": lambda: plain(0),
        "balance_tune": ours,
    }
    ours()  # opens the store
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            times[name].append(run())
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
