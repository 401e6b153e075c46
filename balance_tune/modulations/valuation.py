"""What each modality contributes to getting a sample right, and epochs that visit samples again with one alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from balance_tune.modulations.batch import EpochPlan
from balance_tune.modulations.context import Context
from balance_tune.seeds import generator

Silence = Literal["inputs", "features"]
CHUNK = 1024  # samples an evaluation pass takes at once


@torch.no_grad()
def correctness(ctx: Context, rows: Tensor, silence: Silence = "inputs") -> Tensor:
    """Return (2^M, n) bool: is training sample i answered right with only the modalities of a subset (by its bits).

    Absent modalities' inputs (or features, by `silence`) are zero, in evaluation mode, so that what their encoder puts
    out is one constant: encoders pass over the samples once, only the fusion head once per subset. rows (n,) are
    positions in the training part, the same on every worker; so is the result. The empty subset counts as wrong.
    """
    model, world = ctx.model, ctx.replicas.world
    was_training = model.training
    model.eval()
    mine = rows[ctx.replicas.rank :: world]
    subsets = 2 ** len(model.modalities)
    right = torch.zeros(len(mine), subsets, dtype=torch.bool, device=ctx.device)
    with ctx.autocast():
        one = ctx.take("train", rows[:1], None, rows.new_zeros(1), 1).inputs
        silent = model.encode({m: torch.zeros_like(x) for m, x in one.items()})
        if silence == "features":
            silent = {m: torch.zeros_like(h) for m, h in silent.items()}
        size = min(CHUNK, ctx.rows_at_once("train"))
        for start in range(0, len(mine), size):
            chosen = mine[start : start + size]
            batch = ctx.take("train", chosen, None, torch.arange(len(chosen), device=ctx.device), len(chosen))
            features = model.encode(batch.inputs)
            for s in range(1, subsets):
                mixed = {m: h if s >> j & 1 else silent[m].expand_as(h) for j, (m, h) in enumerate(features.items())}
                right[start : start + size, s] = model.fusion(mixed).argmax(1) == batch.labels
    model.train(was_training)
    places = torch.cat([torch.arange(rank, len(rows), world) for rank in range(world)])
    return ctx.replicas.gather(right)[places.argsort().to(ctx.device)].T


def shapley(right: Tensor) -> Tensor:
    """Return phi (M, n), each modality's Shapley value per sample, from `correctness` (2^M, n).

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! ( v(S with m) - v(S) ),  v(S) = |S| if S is right, else 0
    """
    subsets = len(right)
    count = subsets.bit_length() - 1
    size = torch.tensor([s.bit_count() for s in range(subsets)], dtype=torch.float64)
    value = right * size.to(right.device, non_blocking=True)[:, None]
    phi = []
    for j in range(count):
        without = [s for s in range(subsets) if not s >> j & 1]
        weights = [math.factorial(s.bit_count()) * math.factorial(count - s.bit_count() - 1) for s in without]
        gain = torch.stack([value[s | 1 << j] - value[s] for s in without])
        phi.append(size.new_tensor(weights).to(right.device, non_blocking=True) @ gain / math.factorial(count))
    return torch.stack(phi)


def resampled(
    plan: EpochPlan, extra: Sequence[Tensor], ctx: Context, purpose: str, silence: Silence = "inputs"
) -> EpochPlan:
    """Return the plan with rows added in which one modality alone is present: extra[j] (n_j,) for modality j, shuffled.

    Unchanged where nothing is added.
    """
    added = sum(len(rows) for rows in extra)
    if not added:
        return plan
    present = plan.present
    if present is None:
        present = torch.ones(len(plan), len(extra), dtype=torch.bool, device=plan.order.device)
    alone = torch.eye(len(extra), dtype=torch.bool, device=plan.order.device)
    order = torch.cat([plan.order, *extra])
    present = torch.cat([present, *(alone[j].expand(len(rows), -1) for j, rows in enumerate(extra))])
    shuffle = torch.randperm(len(order), generator=generator("cpu", ctx.seed, purpose, ctx.epoch)).to(order.device)
    return replace(plan, order=order[shuffle], present=present[shuffle], silence=silence)
