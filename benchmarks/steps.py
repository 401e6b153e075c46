"""What a training step costs under each method, against plain joint training: python -m benchmarks.steps

Two models: the small CNN pair of AV-Digits, and a pair of ResNet-18 on inputs of CREMA-D's shapes (generated).
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch

from balance_tune.datasets.base import Modality
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.modulations.base import Modulation
from balance_tune.registry import modulations
from balance_tune.studies.execution.process import configure_process
from balance_tune.training.context import RunContext
from balance_tune.training.run import Run
from balance_tune.training.setup import assemble, prepare
from benchmarks.table import Table, show, spread
from benchmarks.trials import configuration

ALWAYS_ON = {  # a window or a coin would leave some steps plain
    "ogm": {"end": 1.0},
    "ogm_ge": {"end": 1.0},
    "opm": {"start": 0.0, "p_exe": 1.0},
    "opm_ogm": {"start": 0.0, "p_exe": 1.0, "ogm_end": 1.0},
}
AGAINST = {"mlb": "multi_loss"}
LIGHT = ("joint", "ogm", "ogm_ge", "opm", "opm_ogm", "multi_loss", "mlb")  # those that need no extra pass
CREMA_D = {"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}
Ready = tuple[RunContext, Modulation]


def small(method: str, device: str = "cpu") -> Ready:
    """Return a run of AV-Digits at the beginning of its first epoch."""
    return begun(*prepare({**configuration("av_digits", method, ALWAYS_ON.get(method, {})), "device": device}))


def large(method: str, data: Data, device: str = "cpu", **training: Any) -> Ready:
    """Return a run of the ResNet-18 pair at the beginning of its first epoch."""
    config = {
        "method": method,
        "modulation": ALWAYS_ON.get(method, {}),
        "training": {"epochs": 20, "lr": 0.001, **training},
        "objective": "val/accuracy",
        "seed": 0,
    }
    return begun(*assemble(config, data, device=torch.device(device)))


def crema_d(
    rows: int, device: str = "cpu", shapes: Mapping[str, tuple[int, ...]] = CREMA_D, encoder: str = "resnet18"
) -> Data:
    """Return noise in the shapes of CREMA-D: a spectrogram and one frame, six classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(rows, *shape, generator=generator).to(device) for m, shape in shapes.items()}
    part = Part(inputs, (torch.arange(rows) % 6).to(device), torch.arange(rows), None)
    specs = {m: Modality(shape, encoder) for m, shape in shapes.items()}
    manifest: Any = SimpleNamespace(dataset="crema_d", modalities=specs, classes=tuple("abcdef"))
    return Data(manifest, {"train": part, "monitor": part, "val": part})


def begun(run: Run, modulation: Modulation) -> Ready:
    """Return the run with what the method prepares for its first epoch done."""
    ctx = run.context
    ctx.acting = modulation
    ctx.model.train()
    ctx.optimization.set_rate(0.001)
    modulation.plan_epoch(ctx.plan(), ctx)
    modulation.on_epoch_start(ctx)
    return ctx, modulation


def in_turns(runs: dict[str, Ready], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return each method's milliseconds per step, round by round; the methods take turns on batches of one order.

    Each round has its own order of methods, so that none always follows the same other in the caches.
    """
    order, shuffle = list(runs.items()), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in runs}
    gpu = next(iter(runs.values()))[0].device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    for turn in range(rounds + 1):
        shuffle(order)
        for name, (ctx, modulation) in order:
            batches = list(islice(ctx.planned(ctx.plan()), steps))
            if gpu:
                torch.cuda.synchronize()
            began = clock()
            for batch in batches:
                modulation.train_step(batch, ctx)
                ctx.step += 1
            if gpu:
                torch.cuda.synchronize()
            if turn:  # the first round warms up
                times[name].append((clock() - began) / len(batches) * 1e3)
            ctx.logged()
    return times


def rows_of(times: dict[str, list[float]], *, cost: bool) -> list[list[str]]:
    """Return a table's rows: each method's time, and its ratio to its base in the same round."""
    rows = []
    for name, found in times.items():
        base = AGAINST.get(name, "joint")
        ratios = [a / b for a, b in zip(found, times[base], strict=True)]
        rows.append([name, base, spread(found), spread(ratios), *([modulations().get(name).cost] if cost else [])])
    return rows


def measure(rounds: int = 16) -> Table:
    """Return the table of CPU time per step of the small pair, over all methods."""
    configure_process(1)  # as the process of a trial does
    heavy = [name for name in modulations().names() if name not in (*LIGHT, "unimodal")]
    # a turn of a few steps sees the same machine as the turns beside it, which differences of a few per cent need
    rows = rows_of(in_turns({name: small(name) for name in LIGHT}, 8 * rounds, steps=4), cost=True)
    rows += rows_of(in_turns({name: small(name) for name in ("joint", *heavy)}, rounds, steps=8), cost=True)[1:]
    return Table(
        "A step",
        "CPU ms per training step on AV-Digits, batch 64, one thread; ratio to plain training in the same round.",
        ("method", "against", "ms", "ratio", "what it needs by definition"),
        rows,
    )


def measure_large(rounds: int = 3) -> Table:
    """Return the table of the ResNet-18 pair, over the methods that need no extra pass."""
    configure_process(1)  # a step's pages are faulted in anew else, at a cost that varies more than the methods do
    data = crema_d(8)
    times = in_turns({name: large(name, data, batch_size=8) for name in LIGHT}, rounds, steps=1)
    return Table(
        "A step of ResNet-18",
        "The same for a pair of ResNet-18 on inputs of CREMA-D's shapes (257 x 188 and 3 x 224 x 224), batch 8. What "
        "noise costs is for 22 million weights, whatever the batch.",
        ("method", "against", "ms", "ratio"),
        rows_of(times, cost=False),
    )


if __name__ == "__main__":
    show(measure(), measure_large())
