"""Batches of CREMA-D's shape from the store against the official way of loading them, and against copying memory.

The official way decodes a WAV, transforms it and decodes a picture for every sample, in a DataLoader of as many
processes as there are cores (OGM-GE; librosa's load and stft by the same soxr and FFT it uses). The store's way maps,
gathers, crops, flips and scales whole batches, as training does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from balance_tune.datasets import sounds, spectra
from balance_tune.datasets.crema_d import CremaD
from balance_tune.datasets.miniature import scene, tone, write_picture, write_sound
from balance_tune.datasets.modality import IMAGENET
from balance_tune.datasets.store import Data, open_store
from balance_tune.studies.data.prepare import prepare
from balance_tune.training.buffers import Buffers
from balance_tune.training.feed import Feed, draws_for, feed_of
from balance_tune.training.rows import Rows
from benchmarks.table import Table, show, spread

CLIPS, BATCH, ROUNDS = 192, 64, 7
SIZE = (360, 480)


def distribution(folder: Path) -> None:
    """Make clips of CREMA-D's real size: 2.5 s at 16 kHz, three pictures of 480 x 360."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for k in range(CLIPS):
        label = k % 6
        name = f"{1001 + k // 12}_IEO_{CremaD.classes[label]}_{k:03d}"
        write_sound(folder / "AudioWAV" / f"{name}.wav", tone(label, name, 2.5, 16000), 16000)
        for number, image in enumerate(scene(label, name, 3, SIZE), start=1):
            write_picture(folder / "Image-01-FPS" / name / f"{number:05d}.jpg", image)
        lines["test" if k % 16 == 0 else "train"].append(f"{name},{CremaD.classes[label]}\n")
    for part, listed in lines.items():
        (folder / f"{part}.csv").write_text("".join(listed))


class Official(Dataset[tuple[Tensor, Tensor, int]]):
    """CREMA-D read sample by sample, as OGM-GE's dataset does."""

    def __init__(self, source: Path) -> None:
        from torchvision import transforms

        self.source = source
        self.items = [item for item in CremaD().items(source) if item.part == "train"]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(*IMAGENET),
            ]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        from PIL import Image

        item = self.items[index]
        heard, seen = (self.source / file for file in item.files)
        wave = spectra.tiled(sounds.sound(heard, 22050), 3 * 22050)
        image = self.transform(Image.open(seen / "00001.jpg").convert("RGB"))
        return torch.from_numpy(spectra.log_spectrogram(wave, 512, 353)), image, int(item.label)  # type: ignore[arg-type]


def official(loader: DataLoader[Any]) -> Iterator[int]:
    for _, images, _ in loader:
        yield len(images)


def from_store(feed: Feed, epoch: int) -> Iterator[int]:
    """Yield one epoch's batches as training takes them."""
    generator = torch.Generator().manual_seed(epoch)
    chunks = torch.randperm(len(feed), generator=generator).split(BATCH)
    for step, (rows, stored) in enumerate(zip(chunks, feed.stream(chunks), strict=True)):
        positions = torch.arange(len(rows))
        inputs = feed.prepared(stored, draws_for(feed.inputs, (0, epoch, step), positions, len(rows)))
        yield len(next(iter(inputs.values())))


def gathered(data: Data, buffers: Buffers, epoch: int) -> Iterator[int]:
    """Yield one epoch's batches in the types of the store, only read."""
    part = data.parts["train"]
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(epoch))
    for rows in order.split(BATCH):
        for source in part.inputs.values():
            Rows(source, rows).gathered(buffers)
        yield len(rows)


def copied(memory: Tensor, rows: int) -> Iterator[int]:
    """Yield one epoch's batches as copies of as many bytes, in one piece, to memory that is there already."""
    half = len(memory) // 2
    for start in range(0, rows, BATCH):
        memory[:half].copy_(memory[half:])
        yield min(BATCH, rows - start)


def rate(batches: Iterator[int]) -> float:
    """Return samples per second."""
    began = time.perf_counter()
    samples = sum(batches)
    return samples / (time.perf_counter() - began)


def main() -> None:
    """Measure in turns and print the table."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder) / "source", Path(folder) / "store"
        distribution(source)
        began = time.perf_counter()
        prepare(CremaD(), source, store)
        prepared = CLIPS / (time.perf_counter() - began)
        data = open_store(store)
        loader = DataLoader(Official(source), BATCH, shuffle=True, num_workers=cores, persistent_workers=True)
        feed, buffers = feed_of(data, "train"), Buffers()
        train = data.parts["train"]
        memory = torch.ones(2 * BATCH * train.nbytes // len(train), dtype=torch.uint8)
        ways: dict[str, Callable[[int], Iterator[int]]] = {
            f"official way, DataLoader of {cores} processes": lambda epoch: official(loader),
            "store: gathered, cropped, flipped, scaled": lambda epoch: from_store(feed, epoch),
            "store: gathered, as stored": lambda epoch: gathered(data, buffers, epoch),
            "as many bytes copied": lambda epoch: copied(memory, len(train)),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(ROUNDS + 1):
            for name, way in ways.items():
                measured = rate(way(epoch))
                if epoch:  # the first warms up
                    found[name].append(measured)
    first = next(iter(found.values()))
    rows = []
    for name, rates in found.items():
        ratios = [one / other for one, other in zip(rates, first, strict=True)]
        rows.append((name, spread(rates, 0), f"{statistics.median(rates) / BATCH:.1f}", spread(ratios, 1)))
    table = Table(
        "Data: batches of CREMA-D's shape",
        f"{CLIPS} clips, batches of {BATCH}: 257 x 188 log-spectrogram and one of three frames, 224 x 224; rates of "
        f"{ROUNDS} rounds in turns. Preparing the store took one process {1 / prepared * 1000:.0f} ms a clip.",
        ("way", "samples/s", "batches/s", "x official way"),
        rows,
    )
    show(table)


if __name__ == "__main__":
    main()
