"""What a training step costs under each method, against plain joint training: python -m benchmarks.steps"""

from __future__ import annotations

import time

import torch

from balance_tune.modulations.base import Modulation
from balance_tune.registry import modulations
from balance_tune.training.context import Context
from balance_tune.training.setup import prepare
from benchmarks.data import configuration
from benchmarks.table import Table, spread

ALWAYS_ON = {  # a window or a coin would leave some steps plain
    "ogm": {"end": 1.0},
    "ogm_ge": {"end": 1.0},
    "opm": {"start": 0.0, "p_exe": 1.0},
    "opm_ogm": {"start": 0.0, "p_exe": 1.0, "ogm_end": 1.0},
}
AGAINST = {"mlb": "multi_loss"}
STEPS = 12


def ready(method: str) -> tuple[Context, Modulation]:
    """Return a run in its first epoch, with what the method prepares for an epoch done."""
    run, modulation = prepare(configuration("av_digits", method, ALWAYS_ON.get(method, {})))
    ctx = run.context
    ctx.acting = modulation
    ctx.model.train()
    ctx.optimization.set_rate(0.001)
    modulation.plan_epoch(ctx.plan(), ctx)
    modulation.on_epoch_start(ctx)
    return ctx, modulation


def measure(rounds: int = 30) -> Table:
    """Return the table of CPU time per step; the methods take turns, a dozen steps each, on the same batches."""
    torch.set_num_threads(1)
    names = [name for name in modulations().names() if name not in ("unimodal",)]
    runs = {name: ready(name) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, (ctx, modulation) in runs.items():
            batches = [b for b, _ in zip(ctx.planned(ctx.plan()), range(STEPS), strict=False)]
            began = time.process_time()
            for batch in batches:
                modulation.train_step(batch, ctx)
                ctx.step += 1
            times[name].append((time.process_time() - began) / STEPS * 1e3)
            ctx.logged()
    rows = []
    for name in names:
        base = AGAINST.get(name, "joint")
        ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
        rows.append([name, base, spread(times[name]), spread(ratios), modulations().get(name).cost])
    return Table(
        "A step",
        "CPU ms per training step on AV-Digits, batch 64, one thread; ratio to plain training in the same round.",
        ("method", "against", "ms", "ratio", "what it needs by definition"),
        rows,
    )


if __name__ == "__main__":
    print(measure().markdown())
