"""What a GPU gives: trials per hour by its fraction, samples per second, waiting, step overhead: make bench-gpu

Writes benchmarks/RESULTS_GPU.md. Needs a GPU; without one it says so and exits with status 2.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional as F

from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.batch import Batch
from balance_tune.training.context import RunContext
from balance_tune.training.loop import train
from balance_tune.training.setup import assemble, prepare
from benchmarks.steps import ALWAYS_ON, LIGHT, Ready, crema_d, in_turns, large, rows_of, small
from benchmarks.table import Table, machine, spread
from benchmarks.trials import configuration

RESULTS = Path(__file__).parent / "RESULTS_GPU.md"
SHARES = (1, 2, 4, 8)
TRIALS = 16  # of AV-Digits a process, 20 epochs each
ROWS, BATCH, EPOCHS = 1024, 64, 2  # of a CREMA-D-shaped trial
ROUNDS = 5
Moment = float | torch.cuda.Event


def av_digits() -> None:
    """Train one trial of AV-Digits from its configuration to the last epoch."""
    run, modulation = prepare({**configuration("av_digits", "ogm_ge", {}, epochs=20, lr=0.05), "device": "cuda"})
    for _ in train(run, modulation):
        pass


def resnets() -> None:
    """Train one short trial of the ResNet-18 pair in bf16 on generated data."""
    config = {
        "method": "ogm_ge",
        "modulation": ALWAYS_ON["ogm_ge"],
        "training": {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.001, "precision": "bf16"},
        "objective": "val/accuracy",
        "seed": 0,
    }
    run, modulation = assemble(config, crema_d(ROWS, "cuda"), device=torch.device("cuda"))
    for _ in train(run, modulation):
        pass


WORKLOADS: dict[str, tuple[Callable[[], None], int]] = {
    "AV-Digits, 20 epochs": (av_digits, TRIALS),
    f"ResNet-18 pair, bf16, {EPOCHS} epochs of {ROWS}": (resnets, 2),
}


def trials_per_hour(workload: str, processes: int) -> float:
    """Return trials per hour of so many processes on one device, imports and the first trial of each left out."""
    spawn = multiprocessing.get_context("spawn")
    barrier, done = spawn.Barrier(processes + 1), spawn.Queue()
    workers = [spawn.Process(target=_work, args=(workload, barrier, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait(300)
    began = time.perf_counter()
    trials = sum(done.get(timeout=600) for _ in workers)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join(60)
    return trials / seconds * 3600


def _work(workload: str, barrier: Any, done: Any) -> None:
    torch.set_num_threads(1)
    trial, count = WORKLOADS[workload]
    trial()
    barrier.wait(300)
    for _ in range(count):
        trial()
    torch.cuda.synchronize()
    done.put(count)


def sharing() -> Table:
    """Return trials per hour against the share of the device that each trial has."""
    rows = []
    for workload in WORKLOADS:
        found = [trials_per_hour(workload, processes) for processes in SHARES]
        rows.append([workload, *(f"{rate:.0f} ({rate / found[0]:.2f})" for rate in found)])
    return Table(
        "Sharing a GPU",
        "Trials per hour, and how many times those of one process, by the share of the device a trial has.",
        ("trial", *("1" if n == 1 else f"1/{n}" for n in SHARES)),
        rows,
    )


def samples() -> Table:
    """Return samples per second of training the ResNet-18 pair against a plain loop in fp32."""
    data = crema_d(BATCH * 4, "cuda")
    variants = {"plain PyTorch loop, fp32": plain(large("joint", data, "cuda", batch_size=BATCH))}
    for precision in ("fp32", "bf16"):
        for method in ("joint", "ogm_ge"):
            ready = large(method, data, "cuda", batch_size=BATCH, precision=precision)
            variants[f"balance_tune, {method}, {precision}"] = steps(ready)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(ROUNDS + 1):
        for name, step in variants.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            count = sum(1 for _ in islice(step, 10))
            torch.cuda.synchronize()
            if turn:  # the first round warms up
                rates[name].append(count * BATCH / (time.perf_counter() - began))
    base = next(iter(rates.values()))
    rows = [[n, spread(r, 0), spread([a / b for a, b in zip(r, base, strict=True)])] for n, r in rates.items()]
    return Table("ResNet-18 on a GPU", f"Samples per second, batch {BATCH}, data on it.", ("loop", "/s", "ratio"), rows)


def waiting(data: Data | None = None, device: str = "cuda", batch_size: int = BATCH, rounds: int = ROUNDS) -> Table:
    """Return the share of time that a device waits for data which lies on the host, and samples per second."""
    data = data or crema_d(ROWS)
    feeds = {"indexed and copied when it is needed": plainly, "balance_tune: gathered ahead, from pinned memory": ahead}
    settings = {"batch_size": batch_size, "precision": "bf16"}
    runs = {name: (large("joint", data, device, **settings), feed) for name, feed in feeds.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, ((ctx, modulation), feed) in runs.items():
            share, seconds = waited(feed(ctx), partial(modulation.train_step, ctx=ctx), device)
            if turn:  # the first round warms up
                found[name].append((share, len(data.parts["train"]) / seconds))
    base = [rate for _, rate in next(iter(found.values()))]
    rows = []
    for name, measured in found.items():
        shares, rates = zip(*measured, strict=True)
        ratios = [a / b for a, b in zip(rates, base, strict=True)]
        rows.append([name, spread([100 * share for share in shares], 1), spread(rates, 0), spread(ratios)])
    return Table(
        "Waiting for data",
        f"Epochs of {len(data.parts['train'])} samples of the ResNet-18 pair in bf16, batch {batch_size}, data in the "
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


def steps(ready: Ready) -> Iterator[None]:
    """Take one training step after another."""
    ctx, modulation = ready
    while True:
        for batch in ctx.planned(ctx.plan()):
            modulation.train_step(batch, ctx)
            ctx.step += 1
            yield
        ctx.logged()


def plain(ready: Ready) -> Iterator[None]:
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
            yield
        statistics.fmean(losses)


def small_steps() -> Table:
    """Return what a step of the small pair costs under each method."""
    return _overhead("A step of AV-Digits on a GPU", {name: small(name, "cuda") for name in LIGHT}, 20, 12)


def large_steps() -> Table:
    """Return what a step of the ResNet-18 pair in bf16 costs under each method."""
    data = crema_d(BATCH * 4, "cuda")
    runs = {name: large(name, data, "cuda", batch_size=BATCH, precision="bf16") for name in LIGHT}
    return _overhead("A step of ResNet-18 on a GPU, bf16", runs, 10, 4)


def _overhead(title: str, runs: dict[str, Ready], rounds: int, count: int) -> Table:
    rows = rows_of(in_turns(runs, rounds, count), cost=False)
    return Table(title, "Wall ms per step.", ("method", "against", "ms", "ratio"), rows)


def main() -> None:
    if not torch.cuda.is_available():
        raise UserError("`make bench-gpu` needs a GPU that torch can use, but there is none.")
    parts = [f"# Benchmarks on a GPU\n\nMade by `make bench-gpu`.\n\n{machine()}\n"]
    for table in (sharing, samples, waiting, small_steps, large_steps):
        parts.append(table().markdown())
        print(parts[-1], flush=True)
    RESULTS.write_text("\n".join(parts))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
