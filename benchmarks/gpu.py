"""What a GPU gives: trials per hour by its fraction, samples per second, waiting, step overhead: make bench-gpu

Writes benchmarks/RESULTS_GPU.md. Needs a GPU; without one it says so and exits with status 2. What fails on a card is
named in its place, and the rest is measured.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.batch import Batch
from balance_tune.registry import modulations
from balance_tune.studies.wording import one_line
from balance_tune.training.context import RunContext
from balance_tune.training.loop import train
from balance_tune.training.setup import assemble, prepare
from benchmarks.steps import ALWAYS_ON, CREMA_D, LIGHT, Ready, crema_d, in_turns, large, rows_of, small
from benchmarks.table import Table, machine, spread
from benchmarks.trials import configuration

RESULTS = Path(__file__).parent / "RESULTS_GPU.md"
Moment = float | torch.cuda.Event


@dataclass(frozen=True)
class Sizes:
    """How much is measured: `digits` and `epochs` are a trial's epochs, `trials` those of AV-Digits a process."""

    rows: int = 1024
    batch: int = 64
    epochs: int = 2
    digits: int = 20
    trials: int = 16
    rounds: int = 5
    steps: int = 10
    workers: int = 8  # of the official loop's DataLoader
    shares: tuple[int, ...] = (1, 2, 4, 8)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict(CREMA_D))
    encoder: str = "resnet18"
    methods: tuple[str, ...] = ()  # whose steps are timed, beside the light ones; default: all

    def heavy(self) -> tuple[str, ...]:
        every = [name for name in modulations().names() if name not in (*LIGHT, "unimodal")]
        return self.methods or tuple(every)


# trials that share a device ----------------------------------------------------------------------------------------
def av_digits(sizes: Sizes) -> None:
    """Train one trial of AV-Digits from its configuration to the last epoch."""
    how = configuration("av_digits", "ogm_ge", {}, epochs=sizes.digits, lr=0.05)
    for _ in train(*prepare({**how, "device": "cuda"})):
        pass


def resnets(sizes: Sizes) -> None:
    """Train one short trial of the ResNet-18 pair in bf16 on generated data."""
    config = {
        "method": "ogm_ge",
        "modulation": ALWAYS_ON["ogm_ge"],
        "training": {"epochs": sizes.epochs, "batch_size": sizes.batch, "lr": 0.001, "precision": "bf16"},
        "objective": "val/accuracy",
        "seed": 0,
    }
    for _ in train(
        *assemble(config, crema_d(sizes.rows, "cuda", sizes.shapes, sizes.encoder), device=torch.device("cuda"))
    ):
        pass


WORKLOADS: dict[str, Callable[[Sizes], None]] = {"AV-Digits": av_digits, "ResNet-18 pair, bf16": resnets}


def work(workload: str, sizes: Sizes, barrier: Any, done: Any) -> None:
    """Train one trial to warm up, wait for the others, and train the rest; in a process of its own."""
    torch.set_num_threads(1)
    trial, count = WORKLOADS[workload], sizes.trials if workload == "AV-Digits" else 2
    trial(sizes)
    barrier.wait(300)
    for _ in range(count):
        trial(sizes)
    torch.cuda.synchronize()
    done.put(count)


def trials_per_hour(workload: str, processes: int, sizes: Sizes, target: Callable[..., None] = work) -> float:
    """Return trials per hour of so many processes on one device, imports and the first trial of each left out."""
    spawn = multiprocessing.get_context("spawn")
    barrier, done = spawn.Barrier(processes + 1), spawn.Queue()
    workers = [spawn.Process(target=target, args=(workload, sizes, barrier, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait(300)
    began = time.perf_counter()
    trials = sum(done.get(timeout=600) for _ in workers)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join(60)
    return trials / seconds * 3600


def sharing(sizes: Sizes, target: Callable[..., None] = work) -> Table:
    """Return trials per hour against the share of the device that each trial has."""
    rows = []
    for workload in WORKLOADS:
        rates = [trials_per_hour(workload, processes, sizes, target) for processes in sizes.shares]
        rows.append([workload, *(f"{rate:.0f} ({rate / rates[0]:.2f})" for rate in rates)])
    return Table(
        "Sharing a GPU",
        f"Trials per hour, and how many times those of one process, by the share of the device a trial has: AV-Digits "
        f"{sizes.digits} epochs, the ResNet-18 pair {sizes.epochs} epochs of {sizes.rows} samples.",
        ("trial", *("1" if n == 1 else f"1/{n}" for n in sizes.shares)),
        rows,
    )


# samples per second ------------------------------------------------------------------------------------------------
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {"channels_last": False},
    "fp32, channels_last": {},
    "bf16, channels_last": {"precision": "bf16"},
    "bf16, channels_last, compile": {"precision": "bf16", "compile": True},
}


def samples(sizes: Sizes) -> Table:
    """Return samples per second of training both models against a plain loop in fp32."""
    data = crema_d(sizes.batch * 4, "cuda", sizes.shapes, sizes.encoder)
    resnet = partial(large, data=data, device="cuda", batch_size=sizes.batch)
    loops: dict[str, Callable[[], Iterator[int]]] = {
        "ResNet-18 pair: plain loop, fp32": lambda: plain(resnet("joint")),
        "ResNet-18 pair: official form (DataLoader, images decoded one by one)": lambda: official(
            resnet("joint"), sizes
        ),
    }
    for kind, settings in KINDS.items():
        loops[f"ResNet-18 pair: balance_tune, joint, {kind}"] = lambda s=settings: steps(resnet("joint", **s))
    loops["ResNet-18 pair: balance_tune, joint, bf16, CUDA graph"] = lambda: graphed(resnet("joint", precision="bf16"))
    loops["ResNet-18 pair: balance_tune, ogm_ge, bf16, channels_last"] = lambda: steps(
        resnet("ogm_ge", precision="bf16")
    )
    rows = _rates(loops, sizes)
    digits: dict[str, Callable[[], Iterator[int]]] = {
        "AV-Digits: plain loop, fp32": lambda: plain(small("joint", "cuda")),
        "AV-Digits: balance_tune, joint": lambda: steps(small("joint", "cuda")),
        "AV-Digits: balance_tune, joint, CUDA graph": lambda: graphed(small("joint", "cuda")),
        "AV-Digits: balance_tune, ogm_ge": lambda: steps(small("ogm_ge", "cuda")),
    }
    rows += _rates(digits, sizes)
    return Table(
        "Samples per second on a GPU",
        f"Batch {sizes.batch}, data on the device except in the official form; ratio to the model's plain loop in the "
        "same round.",
        ("loop", "/s", "ratio"),
        rows,
    )


def _rates(loops: Mapping[str, Callable[[], Iterator[int]]], sizes: Sizes) -> list[list[str]]:
    """Return a row a loop: samples per second, and the ratio to the first; loops take turns."""
    begun: dict[str, Iterator[int]] = {}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    broken: dict[str, str] = {}
    for turn in range(sizes.rounds + 1):
        for name, begin in loops.items():
            if name in broken:
                continue
            try:
                if name not in begun:
                    begun[name] = begin()
                torch.cuda.synchronize()
                began = time.perf_counter()
                count = sum(islice(begun[name], sizes.steps))
                torch.cuda.synchronize()
            except Exception as error:  # what a card or its driver refuses is named, and the others are measured
                broken[name] = one_line(f"{type(error).__name__}: {error}")[:120]
                continue
            if turn:  # the first round warms up
                rates[name].append(count / (time.perf_counter() - began))
    base = next(iter(rates.values()))
    rows = []
    for name, rate in rates.items():
        ratios = [a / b for a, b in zip(rate, base, strict=False)]
        rows.append(
            [name, f"failed: {broken[name]}", ""] if name in broken else [name, spread(rate, 0), spread(ratios)]
        )
    return rows


def steps(ready: Ready) -> Iterator[int]:
    """Take one training step after another; yield how many samples each had."""
    ctx, modulation = ready
    while True:
        for batch in ctx.planned(ctx.plan()):
            modulation.train_step(batch, ctx)
            ctx.step += 1
            yield len(batch)
        ctx.logged()


def plain(ready: Ready) -> Iterator[int]:
    """Take the steps as one would write them: contiguous model, fp32, torch's own SGD, a loss read every step."""
    ctx, _ = ready
    model: MultimodalModel = ctx.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    losses = []
    while True:
        for batch in ctx.planned(ctx.plan()):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch.inputs), batch.labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            yield len(batch)
        statistics.fmean(losses)


def graphed(ready: Ready) -> Iterator[int]:
    """Take the steps of a method that is the same in every step (joint) as one CUDA graph, which is replayed.

    Nothing in such a step may depend on a value on the host; a last, smaller batch of an epoch is left out.
    """
    ctx, modulation = ready
    static = next(ctx.planned(ctx.plan()))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # memory and kernels are chosen before they are recorded
            modulation.train_step(static, ctx)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        modulation.train_step(static, ctx)
    while True:
        for batch in ctx.planned(ctx.plan()):
            if len(batch) != len(static):
                continue
            for m, x in batch.inputs.items():
                static.inputs[m].copy_(x, non_blocking=True)
            static.labels.copy_(batch.labels, non_blocking=True)
            graph.replay()
            yield len(batch)


class Decoded(Dataset[tuple[dict[str, Tensor], int]]):
    """Samples as official code reads them: each decoded by itself, when it is asked for."""

    def __init__(self, rows: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rows, self.size, self.shape = rows, shapes["visual"][-1], shapes["visual"]
        side = self.size + 32
        pixels = torch.randint(256, (3, side, side), dtype=torch.uint8, generator=generator)
        self.image = torchvision.io.encode_jpeg(pixels)
        self.sound = torch.randn(shapes["audio"], generator=generator)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], int]:
        image = torchvision.io.decode_jpeg(self.image).float().div_(255)
        top, left = torch.randint(32, (2,)).tolist()
        crop = image[:, top : top + self.size, left : left + self.size]
        return {"audio": self.sound.clone(), "visual": ((crop - 0.5) / 0.25).reshape(self.shape)}, row % 6


def official(ready: Ready, sizes: Sizes) -> Iterator[int]:
    """Take the steps in the form of the official code: DataLoader, DataParallel where there are several GPUs, fp32."""
    ctx, _ = ready
    model: nn.Module = ctx.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if torch.cuda.device_count() > 1:
        model = nn.DataParallel(model)
    loader = DataLoader(
        Decoded(4 * sizes.batch, sizes.shapes), sizes.batch, shuffle=True, num_workers=sizes.workers, pin_memory=True,
        persistent_workers=sizes.workers > 0,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    while True:
        for inputs, labels in loader:
            inputs = {m: x.to(ctx.device) for m, x in inputs.items()}
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels.to(ctx.device))
            loss.backward()
            optimizer.step()
            loss.item()
            yield len(labels)


# waiting -----------------------------------------------------------------------------------------------------------
def waiting(sizes: Sizes, data: Data | None = None, device: str = "cuda") -> Table:
    """Return the share of time that a device waits for data which lies on the host, and samples per second."""
    data = data or crema_d(sizes.rows, shapes=sizes.shapes, encoder=sizes.encoder)
    feeds = {"indexed and copied when it is needed": plainly, "balance_tune: gathered ahead, from pinned memory": ahead}
    settings = {"batch_size": sizes.batch, "precision": "bf16"}
    runs = {name: (large("joint", data, device, **settings), feed) for name, feed in feeds.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(sizes.rounds + 1):
        for name, ((ctx, modulation), feed) in runs.items():
            share, seconds = waited(feed(ctx), partial(modulation.train_step, ctx=ctx), device)
            if turn:  # the first round warms up
                measured[name].append((share, len(data.parts["train"]) / seconds))
    base = [rate for _, rate in next(iter(measured.values()))]
    rows = []
    for name, pairs in measured.items():
        shares, rates = zip(*pairs, strict=True)
        ratios = [a / b for a, b in zip(rates, base, strict=True)]
        rows.append([name, spread([100 * share for share in shares], 1), spread(rates, 0), spread(ratios)])
    return Table(
        "Waiting for data",
        f"Epochs of {len(data.parts['train'])} samples of the ResNet-18 pair in bf16, batch {sizes.batch}, data in the "
        "host's memory: per cent of the device's time between a step's end and the next batch, and samples per second.",
        ("feed", "% waiting", "/s", "ratio"),
        rows,
    )


def plainly(ctx: RunContext) -> Iterator[Batch]:
    """Yield an epoch's batches as one would write it: indexed on the host, then copied."""
    part, size = ctx.parts["train"], ctx.settings.batch_size
    for rows in ctx.plan().order.cpu().split(size):
        inputs = {m: x[rows].to(ctx.device) for m, x in part.inputs.items()}
        rows = rows.to(ctx.device)
        yield Batch(inputs, part.labels[rows], rows, torch.arange(len(rows), device=ctx.device), len(rows))


def ahead(ctx: RunContext) -> Iterator[Batch]:
    """Yield an epoch's batches as training takes them."""
    yield from ctx.planned(ctx.plan())


def waited(batches: Iterator[Batch], step: Callable[[Batch], object], device: str) -> tuple[float, float]:
    """Return the share of a device's time that passes between the end of a step and the next batch, and all seconds.

    By the device's own clock: where the host has everything ready before a step ends, that is no time at all.
    """
    began = ended = moment(device)
    gaps = []
    for batch in batches:
        gaps.append((ended, moment(device)))
        step(batch)
        ended = moment(device)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = between(began, ended)
    return sum(between(*gap) for gap in gaps) / seconds, seconds


def moment(device: str) -> Moment:
    """Return when the device will have done what it was asked to do up to now."""
    if device != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(one: Moment, other: Moment) -> float:
    """Return the seconds between two moments of the past."""
    if isinstance(one, float) or isinstance(other, float):
        return cast(float, other) - cast(float, one)
    return one.elapsed_time(other) / 1e3


# a step ------------------------------------------------------------------------------------------------------------
def small_steps(sizes: Sizes) -> Table:
    """Return what a step of the small pair costs under each method."""
    how = (4 * sizes.rounds, sizes.steps)
    light = in_turns({name: small(name, "cuda") for name in LIGHT}, *how)
    heavy = in_turns(_admitted(("joint", *sizes.heavy())), sizes.rounds, sizes.steps)
    rows = rows_of(light, cost=False) + rows_of(heavy, cost=False)[1:]
    return Table("A step of AV-Digits on a GPU", "Wall ms per step.", ("method", "against", "ms", "ratio"), rows)


def _admitted(methods: tuple[str, ...]) -> dict[str, Ready]:
    """Return runs of the small pair under those methods that AV-Digits can be trained with."""
    runs = {}
    for name in methods:
        try:
            runs[name] = small(name, "cuda")
        except UserError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return runs


def large_steps(sizes: Sizes) -> Table:
    """Return what a step of the ResNet-18 pair in bf16 costs under each method."""
    data = crema_d(sizes.batch * 4, "cuda", sizes.shapes, sizes.encoder)
    runs = {name: large(name, data, "cuda", batch_size=sizes.batch, precision="bf16") for name in LIGHT}
    rows = rows_of(in_turns(runs, 2 * sizes.rounds, min(4, sizes.steps)), cost=False)
    title = "A step of ResNet-18 on a GPU, bf16"
    return Table(title, "Wall ms per step.", ("method", "against", "ms", "ratio"), rows)


TABLES: tuple[Callable[[Sizes], Table], ...] = (sharing, samples, waiting, small_steps, large_steps)


def main(sizes: Sizes | None = None, tables: tuple[Callable[[Sizes], Table], ...] = TABLES) -> int:
    """Measure everything and write it down; return 1 where something failed."""
    if not torch.cuda.is_available():
        raise UserError("`make bench-gpu` needs a GPU that torch can use, but there is none.")
    parts, failed = [f"# Benchmarks on a GPU\n\nMade by `make bench-gpu`.\n\n{machine()}\n"], 0
    for table in tables:
        try:
            parts.append(table(sizes or Sizes()).markdown())
        except Exception as error:  # the other tables are worth having
            failed, what = 1, one_line(f"{type(error).__name__}: {error}")
            parts.append(f"## {getattr(table, '__name__', 'table')}\n\nFailed: {what}\n")
        print(parts[-1], flush=True)
    RESULTS.write_text("\n".join(parts))
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
