"""Greedy: the official two losses, bridges and holding, written over the stages of plain encoders."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replay import OPTIMIZERS, Replay, compare

ALPHA, WINDOW = 0.05, 2


def encoded(r: Replay, x: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Return features, and each exchange's excitations before anything is held, mean over the batch."""
    bridge: Any = r.model.bridge
    encoders: Any = r.model.encoders
    x, means = {m: encoders[m].prepare(v) for m, v in x.items()}, []
    exchanges = list(bridge.exchanges)
    for m in r.names:
        for stage in encoders[m].stages[: len(encoders[m].stages) - len(exchanges)]:
            x[m] = stage(x[m])
    for k, exchange in enumerate(exchanges):
        for m in r.names:
            x[m] = encoders[m].stages[len(encoders[m].stages) - len(exchanges) + k](x[m])
        squeezed = torch.cat([x[m].flatten(2).mean(2) if x[m].dim() > 2 else x[m] for m in r.names], dim=1)
        s = F.relu(F.linear(squeezed, exchange.squeeze.weight, exchange.squeeze.bias))
        e = {m: torch.sigmoid(F.linear(s, exchange.excite[m].weight, exchange.excite[m].bias)) for m in r.names}
        means.append({m: v.detach().mean(0) for m, v in e.items()})
        for m in r.names:
            # gradients of a held bypass are zeros, as `zero_grad` left them in the torch of the official code
            used = 0 * e[m] + r.memory["average"][k][m] if r.memory.get("held") == m else e[m]
            x[m] = x[m] * used.view(*used.shape, *[1] * (x[m].dim() - 2))
    return {m: encoders[m].finish(x[m]) for m in r.names}, means


def speed(parameters: list[tuple[Tensor, Tensor]]) -> float:
    return sum(g.square().sum().item() for _, g in parameters) / sum(p.square().sum().item() for p, _ in parameters)


def balance(r: Replay) -> float:
    """Add this step's learning speeds, and return how much faster the first modality learns from the other one."""
    bridge: Any = r.model.bridge
    relative = []
    for m in r.names:
        bypass = [p for e in bridge.exchanges for part in (e.squeeze, e.excite[m]) for p in part.parameters()]
        own = [(p.detach(), p.grad) for p in r.model.encoders[m].parameters()]
        fusion: Any = r.model.fusion
        if hasattr(fusion, "heads"):  # one for each modality, as in the official code
            own += [(p.detach(), p.grad) for p in fusion.heads[m].parameters()]
        else:
            own.append(
                (fusion.head.weight.detach()[:, fusion.columns[m]], fusion.head.weight.grad[:, fusion.columns[m]])
            )
        sums = r.memory.setdefault("mu", {}).setdefault(m, [0.0, 0.0])
        sums[0] += speed([(p.detach(), p.grad) for p in bypass])
        sums[1] += speed(own)
        relative.append(math.log10(sums[0] / sums[1]))
    return relative[0] - relative[1]


def step(r: Replay, x: dict[str, Tensor], y: Tensor, objective: str) -> None:
    h, means = encoded(r, x)
    if objective == "own":
        fusion: Any = r.model.fusion
        f = {m: fusion.heads[m](h[m]) for m in r.names} if hasattr(fusion, "heads") else r.own(h)
        loss: Any = sum(F.cross_entropy(v, y) for v in f.values())
    else:
        loss = F.cross_entropy(r.fused(h), y)
    r.memory.setdefault("holdings", []).append(r.memory.get("held"))

    def hold() -> None:
        seen = r.step + 1
        past = r.memory.get("average", [dict.fromkeys(r.names, 0.0) for _ in means])
        r.memory["average"] = [
            {m: (past[k][m] * (seen - 1) + mean[m]) / seen for m in r.names} for k, mean in enumerate(means)
        ]
        if r.memory.get("left", 0):
            r.memory["left"] -= 1
            if not r.memory["left"]:
                r.memory["held"] = None
            return
        d = balance(r)
        if abs(d) > ALPHA and r.epoch >= 1:
            r.memory["held"], r.memory["left"] = r.names[0 if d > 0 else 1], WINDOW

    r.update(loss, hold)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fusion", ["concat", "late"])
@pytest.mark.parametrize("objective", ["own", "fused"])
def test_greedy(optimizer: str, fusion: str, objective: str) -> None:
    holdings: list[str | None] = []

    def one(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        step(r, x, y, objective)
        holdings[:] = r.memory["holdings"]

    settings = {"alpha": ALPHA, "window": WINDOW, "warmup": 0.1, "objective": objective}
    compare("greedy", one, settings, optimizer=optimizer, fusion=fusion, alike=True)
    assert holdings[:3] == [None] * 3, "a warm-up of one epoch"
    assert len(set(holdings)) > 1, "somebody must be held"
