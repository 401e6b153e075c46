"""Held-out samples for methods that look at them batch by batch."""

from __future__ import annotations

import torch

from balance_tune.modulations.batch import Batch
from balance_tune.modulations.context import Context
from balance_tune.seeds import generator


def held_out(ctx: Context, *purpose: str | int) -> Batch:
    """Return this worker's share of as many random `monitor` samples as a training batch has.

    Args:
        ctx: of the run.
        purpose: what the draw is keyed by, beside the trial's seed; the same on every worker.
    """
    rows = torch.randperm(ctx.size("monitor"), generator=generator("cpu", ctx.seed, *purpose))
    rows = rows[: ctx.settings.batch_size].to(ctx.device)
    mine = slice(ctx.replicas.rank, None, ctx.replicas.world)
    position = torch.arange(len(rows), device=ctx.device)
    return ctx.take("monitor", rows[mine], None, position[mine], len(rows))
