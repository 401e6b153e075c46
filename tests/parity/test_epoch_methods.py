"""Methods that decide once an epoch: setting encoders back, samples visited again, blended losses."""

from __future__ import annotations

import copy
import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.seeds import derive, generator
from tests.parity.replay import EPOCHS, OPTIMIZERS, Replay, compare

BOTH = pytest.mark.parametrize("optimizer", OPTIMIZERS)
TWO_AND_THREE = pytest.mark.parametrize("modalities", [2, 3])


def plain(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
    r.update(F.cross_entropy(r.fused(r.features(x)), y))


# Diagnosing & Re-learning ---------------------------------------------------------------------------------------------
def clusters(points: Tensor, k: int, starts: int = 300) -> list[int]:
    """Return the cluster of each point: Lloyd's algorithm from random points as centres, the tightest result."""
    draw = torch.Generator().manual_seed(5)
    centres = points[torch.rand(starts, len(points), generator=draw).topk(k).indices]
    for _ in range(30):
        squares = torch.cdist(points.expand(starts, -1, -1), centres).square()
        members = F.one_hot(squares.argmin(2), k).double()
        sizes = members.sum(1)[:, :, None]
        centres = torch.where(sizes > 0, members.transpose(1, 2) @ points / sizes.clamp_min(1), centres)
    tightest = int(squares.min(2).values.sum(1).argmin())
    return squares[tightest].argmin(1).tolist()


def purity(features: Tensor, labels: list[int], k: int) -> float:
    low, high = features.min(0).values, features.max(0).values
    scaled = torch.where(high > low, (features - low) / torch.where(high > low, high - low, 1.0), 0.0) * 2 - 1
    of = clusters(scaled, k)
    largest = 0
    for c in set(of):
        members = [label for label, cluster in zip(labels, of, strict=True) if cluster == c]
        largest += max(members.count(label) for label in members)
    return largest / len(labels)


@BOTH
@TWO_AND_THREE
def test_relearning(optimizer: str, modalities: int) -> None:
    lam, every, most = 3.0, 2, 3
    weights: list[float] = []

    def set_back(r: Replay) -> None:
        """After epochs 2, 4 and 6, which is before the first step of the next one."""
        encoders = {m: list(r.model.encoders[m].parameters()) for m in r.names}
        if r.epoch == 0:
            r.memory["initial"] = {m: [p.detach().clone() for p in ps] for m, ps in encoders.items()}
        finished = r.epoch - 1
        if finished <= 0 or finished % every or finished // every > most:
            return
        r.model.eval()
        with torch.no_grad():
            h = {part: r.features(r.ctx.parts[part].inputs) for part in ("train", "monitor")}
            for m in r.names:
                of = {p: purity(h[p][m], r.ctx.parts[p].labels.tolist(), 3) for p in h}
                w = math.tanh(lam * abs(of["train"] - of["monitor"]))
                weights.append(w)
                for p, initial in zip(encoders[m], r.memory["initial"][m], strict=True):
                    p.copy_(w * initial + (1 - w) * p)

    # so many starts that k-means has one result: with 10 the tightest clusters are missed in one event of six
    settings = {"lam": lam, "interval": every / EPOCHS, "count": most, "n_init": 60}
    compare("relearning", plain, settings, optimizer=optimizer, modalities=modalities, epoch_start=set_back)
    assert len(weights) == most * modalities
    assert max(weights) > 0.1


# valuation ------------------------------------------------------------------------------------------------------------
def contributions(r: Replay, rows: list[int], silence: str) -> dict[str, list[float]]:
    """Return each modality's Shapley value for each sample, as the mean of its gains over all orders of arrival."""
    part, phi = r.ctx.parts["train"], {m: [0.0] * len(rows) for m in r.names}
    r.model.eval()
    for k, i in enumerate(rows):
        value: dict[frozenset[str], float] = {frozenset(): 0.0}

        def worth(present: frozenset[str], i: int = i, value: dict[frozenset[str], float] = value) -> float:
            if present not in value:
                with torch.no_grad():
                    f = answer(r, {m: part.inputs[m][i : i + 1] for m in r.names}, present, silence)
                value[present] = len(present) if int(f.argmax()) == int(part.labels[i]) else 0.0
            return value[present]

        orders = list(permutations(r.names))
        for order in orders:
            for place, m in enumerate(order):
                before = frozenset(order[:place])
                phi[m][k] += (worth(before | {m}) - worth(before)) / len(orders)
    return phi


def answer(r: Replay, x: dict[str, Tensor], present: frozenset[str], silence: str) -> Tensor:
    if silence == "inputs":
        return r.fused(r.features({m: v if m in present else torch.zeros_like(v) for m, v in x.items()}))
    return r.fused({m: h if m in present else torch.zeros_like(h) for m, h in r.features(x).items()})


def shuffled(r: Replay, added: list[tuple[int, str]], method: str) -> list[tuple[int, str | None]]:
    """Return the epoch's visits, the added ones with their one modality, in the order that both sides share."""
    visits: list[tuple[int, str | None]] = [*((i, None) for i in r.ctx.plan().order.tolist()), *added]
    if not added:
        return visits
    order = torch.randperm(len(visits), generator=generator("cpu", r.ctx.seed, method, r.epoch))
    return [visits[i] for i in order.tolist()]


def visit(r: Replay, x: dict[str, Tensor], y: Tensor, silence: str) -> None:
    """Train on the next visits of the epoch, whose inputs are read anew."""
    part = r.ctx.parts["train"]
    mine, r.memory["visits"] = r.memory["visits"][: len(y)], r.memory["visits"][len(y) :]
    assert [i for i, _ in mine] == r.memory["batch"].index.tolist()
    inputs = {m: part.inputs[m][[i for i, _ in mine]] for m in r.names}
    masks = {m: torch.tensor([alone in (None, m) for _, alone in mine]).double() for m in r.names}

    def masked(of: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m: v * masks[m].view(-1, *[1] * (v.dim() - 1)) for m, v in of.items()}

    h = r.features(masked(inputs)) if silence == "inputs" else masked(r.features(inputs))
    r.update(F.cross_entropy(r.fused(h), y))


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("silence", ["inputs", "features"])
def test_sample_valuation(optimizer: str, modalities: int, silence: str) -> None:
    sizes: list[int] = []

    def divide(r: Replay) -> None:
        rows, added = list(range(len(r.ctx.parts["train"]))), []
        if r.epoch >= 2:  # a warm-up of a quarter of the run
            phi = contributions(r, rows, silence)
            for m in r.names:
                for i in rows:
                    c = phi[m][i]
                    times = 1 if 0.4 < c < 0.9 else 2 if -0.1 < c < 0.4 else 3 if c < -0.1 else 0
                    added += [(i, m)] * times
        r.memory["visits"] = shuffled(r, added, "sample_valuation")
        sizes.append(len(added))

    compare(
        "sample_valuation",
        lambda r, x, y: visit(r, x, y, silence),
        {"start": 0.25, "silence": silence},
        optimizer=optimizer,
        modalities=modalities,
        epoch_start=divide,
    )
    assert sizes[:2] == [0, 0]
    assert max(sizes) > 10


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("silence", ["inputs", "features"])
def test_modality_valuation(optimizer: str, modalities: int, silence: str) -> None:
    share, alpha = 0.5, 2.0
    sizes: list[int] = []

    def divide(r: Replay) -> None:
        total, added = len(r.ctx.parts["train"]), []
        if r.epoch >= 2:
            draw = generator("cpu", r.ctx.seed, "modality_valuation", "part", r.epoch)
            rows = torch.randperm(total, generator=draw).tolist()[: int(share * total)]
            mean = {m: sum(phi) / len(rows) for m, phi in contributions(r, rows, silence).items()}
            for m in r.names:
                others = sum(c for n, c in mean.items() if n != m) / (len(mean) - 1)
                count = int(max(0.0, others - mean[m]) / 3 * 2 * alpha * total + 1e-9)
                added += [(i, m) for i in torch.randint(total, (count,), generator=draw).tolist()]
        r.memory["visits"] = shuffled(r, added, "modality_valuation")
        sizes.append(len(added))

    compare(
        "modality_valuation",
        lambda r, x, y: visit(r, x, y, silence),
        {"start": 0.25, "part": share, "alpha": alpha, "silence": silence},
        optimizer=optimizer,
        modalities=modalities,
        epoch_start=divide,
    )
    assert max(sizes) > 3


# G-Blending -----------------------------------------------------------------------------------------------------------
@BOTH
@TWO_AND_THREE
def test_g_blending(optimizer: str, modalities: int) -> None:
    every = 4

    def trained_aside(r: Replay, k: str) -> tuple[float, float]:
        """Return |G| / O^2's two parts of one branch: how far held-out loss fell, and how overfitting grew."""
        model, training = copy.deepcopy(r.model), OPTIMIZERS[optimizer]
        present = r.names if k == "fused" else [k]

        def loss(part: Any, rows: Tensor) -> Tensor:
            x = {m: part.inputs[m][rows] * float(m in present) for m in r.names}
            return F.cross_entropy(model.fusion({m: model.encoders[m](x[m]) for m in r.names}), part.labels[rows])

        def both() -> tuple[float, float]:
            model.eval()
            with torch.no_grad():
                whole = [loss(part, torch.arange(len(part))).item() for part in map(r.ctx.parts.get, PARTS)]
            model.train()
            return whole[0], whole[1]

        before, kw = both(), {"lr": training["lr"], "weight_decay": training["weight_decay"]}
        own: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), **kw)
        if training["optimizer"] == "sgd":
            own = torch.optim.SGD(model.parameters(), momentum=training["momentum"], **kw)
        seed, train = derive(r.ctx.seed, "branch", k, r.epoch), r.ctx.parts["train"]
        for epoch in range(r.epoch, r.epoch + every):
            draw = torch.Generator().manual_seed(derive(seed, "order", epoch))
            for rows in torch.randperm(len(train), generator=draw).split(8):
                own.zero_grad()
                loss(train, rows).backward()
                own.step()
        after = both()
        return before[1] - after[1], (after[1] - after[0]) - (before[1] - before[0])

    def measure(r: Replay) -> None:
        if r.epoch % every:
            return
        raw = {}
        for k in ("fused", *r.names):
            gain, overfit = trained_aside(r, k)
            raw[k] = abs(gain) / overfit**2
        r.memory["w"] = {k: v / sum(raw.values()) for k, v in raw.items()}

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h, w = r.features(x), r.memory["w"]
        own: Any = sum(w[m] * F.cross_entropy(r.modules[m](h[m]), y) for m in r.names)
        r.update(w["fused"] * F.cross_entropy(r.fused(h), y) + own)

    settings = {"super_epoch": every / EPOCHS}
    compare("g_blending", step, settings, optimizer=optimizer, modalities=modalities, epoch_start=measure)


PARTS = ("train", "monitor")
