"""Methods of 2021 to 2026: their published rule (golden numbers say what official code does) over a whole run."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replay import EPOCHS, OPTIMIZERS, Replay, compare, truth

BOTH = pytest.mark.parametrize("optimizer", OPTIMIZERS)
TWO_AND_THREE = pytest.mark.parametrize("modalities", [2, 3])


def answer(r: Replay, x: dict[str, Tensor], present: set[str]) -> Tensor:
    return r.fused(r.features({m: v if m in present else torch.zeros_like(v) for m, v in x.items()}))


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("aware", [False, True])
def test_sam_and_m_sam(optimizer: str, modalities: int, aware: bool) -> None:
    rho = 0.2

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        share = 1.0
        if aware:
            with torch.no_grad():
                whole = answer(r, x, set(r.names))
                if modalities == 2:
                    a, b = r.names
                    first = 0.5 * (whole - answer(r, x, {b}) + answer(r, x, {a}))
                    responses = [first, whole - first]
                else:
                    responses = []
                    for m in r.names:
                        others = [n for n in r.names if n != m]
                        pairs = sum(answer(r, x, {m, n}) - answer(r, x, {n}) for n in others)
                        responses.append((whole - answer(r, x, set(others)) + answer(r, x, {m})) / 3 + pairs / 6)
                s = [truth(f, y).mean().item() for f in responses]
            share = max(s) / sum(s)
        weights = [p.detach().clone() for p in r.parameters]
        g = torch.autograd.grad(F.cross_entropy(r.fused(r.features(x)), y), r.parameters)
        length = math.sqrt(sum(t.square().sum().item() for t in g))
        with torch.no_grad():
            for p, t in zip(r.parameters, g, strict=True):
                p += rho * t / length
        risen = torch.autograd.grad(F.cross_entropy(r.fused(r.features(x)), y), r.parameters)
        with torch.no_grad():
            for p, w, s_, t in zip(r.parameters, weights, g, risen, strict=True):
                p.copy_(w)
                p.grad = share * t + (1 - share) * s_
        r.optimizer.step()

    compare("m_sam" if aware else "sam", step, {"rho": rho}, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_dgl(optimizer: str, modalities: int, fusion: str) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h, head = r.features(x), r.model.fusion
        r.optimizer.zero_grad()
        own: Any = 0
        for m in r.names:
            f = h[m] @ r.weight(m).T + r.bias if fusion == "concat" else head.heads[m](h[m])
            own = own + F.cross_entropy(f, y)
        (2.0 * own).backward()
        for p in head.parameters():
            p.grad = None
        F.cross_entropy(r.fused({m: v.detach() for m, v in h.items()}), y).backward()
        r.optimizer.step()

    compare("dgl", step, {"alpha": 2.0}, optimizer=optimizer, modalities=modalities, fusion=fusion)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("coefficients", ["intended", "published"])
def test_arl(optimizer: str, modalities: int, coefficients: str) -> None:
    gamma, temperature = 2.0, 4.0

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        warm = r.epoch < 2  # a fifth of eight epochs, up to and with the one in which it ends
        h = r.features(x)
        f = {m: h[m] @ r.weight(m).T + r.bias for m in r.names}
        own: Any = sum(F.cross_entropy(v, y) for v in f.values())

        def change() -> None:
            if warm:
                return
            d, e = {}, {}
            for m, v in f.items():
                p = F.softmax(v.detach(), 1)
                d[m] = v.detach().abs().mean(0).sum().item()
                e[m] = -(p * (p + 1e-16).log()).sum(1).mean().item()
            shares = {m: max(0.3, e[m] / sum(e.values())) for m in r.names}
            q = {m: (1 / shares[m]) / sum(1 / s for s in shares.values()) for m in r.names}
            z = {m: math.exp(temperature * q[m] * (1 - d[m] / sum(d.values()))) for m in r.names}
            for m in r.names:
                k = z[m] / sum(z.values()) if coefficients == "intended" else 1 / len(r.names)
                for g in r.grads(m):
                    g.mul_(1 + k)

        r.update(F.cross_entropy(r.fused(h), y) + (1.0 if warm else gamma) * own, change)

    settings = {"gamma": gamma, "temperature": temperature, "warmup": 0.2, "coefficients": coefficients}
    compare("arl", step, settings, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("memory", [1, 10])
def test_inforeg(optimizer: str, modalities: int, memory: int) -> None:
    beta, threshold = 0.9, 0.04

    def begin(r: Replay) -> None:
        traces = r.memory.setdefault("traces", {m: [] for m in r.names})
        r.memory["open"] = {}
        for m in r.names:
            t = [0.0] * memory + traces[m]
            total = sum(t[-memory:])
            r.memory["open"][m] = not traces[m] or (total > 0 and (t[-1] - t[-1 - memory]) / total > threshold)
            traces[m].append(0.0)
        r.memory["start"] = {m: [p.detach().clone() for p in r.model.encoders[m].parameters()] for m in r.names}

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        g = {m: r.modules[m](h[m]) for m in r.names}
        s = {m: truth(f, y).mean().item() for m, f in g.items()}

        def change() -> None:
            for m in r.names:
                behind = [s[m] - t for t in s.values() if t < s[m]]
                lead = sum(behind) / len(behind) if behind else 0.0
                alpha = math.exp(beta * math.tanh(lead)) if lead > 0 and r.memory["open"][m] else 0.0
                for p, start in zip(r.model.encoders[m].parameters(), r.memory["start"][m], strict=True):
                    p.grad.add_(alpha * (p.detach() - start))
                    if p.dim() >= 2:
                        r.memory["traces"][m][-1] += p.grad.square().mean().item()

        own: Any = sum(F.cross_entropy(f, y) for f in g.values())
        r.update(F.cross_entropy(r.fused(h), y) + own, change)

    settings = {"beta": beta, "threshold": threshold, "memory": memory}
    compare("inforeg", step, settings, optimizer=optimizer, modalities=modalities, epoch_start=begin)


@BOTH
@pytest.mark.parametrize(("modalities", "ceb"), [(2, 0.0), (2, 0.5), (3, 0.5)])
def test_mcr(optimizer: str, modalities: int, ceb: float) -> None:
    """The greedy game by its definition: for every subset two terms, with the other side's parts detached."""
    weight, strength, temperature = 0.1, 0.5, 0.5

    def js(a: Tensor, b: Tensor) -> Tensor:
        p, q = F.softmax(a, -1), F.softmax(b, -1)
        mean = (p + q) / 2
        return 0.5 * ((p * (p / mean).log()).sum(-1) + (q * (q / mean).log()).sum(-1)).mean()

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        loss = F.cross_entropy(r.fused(h), y)
        parts: Any = r.modules
        heads = parts["heads"] if ceb else parts
        loss = loss + weight * sum(F.cross_entropy(heads[m](h[m]), y) for m in r.names)
        if ceb:
            w1, w2 = (layer.weight for layer in parts["reconstruction"].layers if hasattr(layer, "weight"))
            rebuilt = F.relu(r.fused(h).detach() @ w1.T) @ w2.T
            loss = loss + ceb * F.mse_loss(torch.cat([h[m] for m in r.names], dim=1), rebuilt)
        shared = r.ctx.shared_generator("mcr")
        sigmas = [torch.randperm(len(y), generator=shared) for _ in range(8)]
        fixed, game = r.fused(h).detach(), 0.0
        part = {m: h[m] @ r.weight(m).T for m in r.names}
        for k in range(1, len(r.names)):
            for chosen in combinations(r.names, k):
                for sign, moving in ((-1, set(chosen)), (1, set(r.names) - set(chosen))):
                    terms = []
                    for sigma in sigmas:
                        f: Any = r.bias.detach()
                        for m in r.names:
                            row = part[m][sigma] if m in chosen else part[m]
                            f = f + (row if m in moving else row.detach())
                        terms.append(js(f, fixed))
                    game = game + sign * sum(terms) / len(terms)
        rows = [(v / v.norm(), label) for m in r.names for v, label in zip(h[m], y.tolist(), strict=True)]
        unit = torch.stack([v for v, _ in rows])
        similar, labels = unit @ unit.T / temperature, torch.tensor([label for _, label in rows])
        pairs = []
        for i in range(len(rows)):
            others = similar[i][labels != labels[i]].exp().sum()
            for j in range(len(rows)):
                if i != j and labels[i] == labels[j]:
                    e = similar[i, j].exp()
                    pairs.append(-(e / (e + others)).log())
        contrast = torch.stack(pairs).mean() if pairs else 0.0
        r.update(loss + strength * game + contrast)

    settings = {"weight": weight, "l": strength, "temperature": temperature, "ceb": ceb}
    compare("mcr", step, settings, optimizer=optimizer, modalities=modalities, alike=True)


@pytest.mark.parametrize("modalities", [2, 3])
def test_miles(modalities: int) -> None:
    """By momentum SGD alone: a rate of its own, not a factor on the gradient."""
    threshold, factor = 0.05, 0.5

    def rates(r: Replay) -> None:
        r.memory["k"] = dict.fromkeys(r.names, 1.0)
        if r.epoch == 0:
            return
        part = r.ctx.parts["monitor"]
        r.model.eval()
        with torch.no_grad():
            h = r.features(part.inputs)
            fused = (r.fused(h).argmax(1) == part.labels).double().mean().item()
            own = {m: (r.modules[m](h[m]).argmax(1) == part.labels).double().mean().item() for m in r.names}
        use = {m: (fused - max(a for n, a in own.items() if n != m)) / fused if fused else 0.0 for m in r.names}
        if max(use.values()) - min(use.values()) > threshold and max(use.values()) >= 0:
            r.memory["k"][max(use, key=lambda m: use[m])] = factor

    def groups(r: Replay) -> list[dict[str, Any]]:
        rest = [*r.model.fusion.parameters(), *r.modules.parameters()]
        return [*({"params": list(r.model.encoders[m].parameters())} for m in r.names), {"params": rest}]

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        for m, group in zip(r.names, r.optimizer.param_groups, strict=False):
            group["lr"] = OPTIMIZERS["momentum"]["lr"] * r.memory["k"][m]
        h = r.features(x)
        own: Any = sum(F.cross_entropy(r.modules[m](h[m]), y) for m in r.names)
        r.update(F.cross_entropy(r.fused(h), y) + own)

    settings = {"threshold": threshold, "factor": factor}
    compare("miles", step, settings, modalities=modalities, epoch_start=rates, groups=groups)


@BOTH
@TWO_AND_THREE
def test_olm(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        if "w" not in r.memory:
            r.memory["w"] = torch.ones(len(r.names) + 1, dtype=torch.float64, requires_grad=True)
            r.memory["adam"] = torch.optim.Adam([r.memory["w"]], lr=0.01)
            r.memory["first"] = []
        w, h = r.memory["w"], r.features(x)
        f = torch.stack([*(r.modules[m](h[m]) for m in r.names), r.fused(h)])
        losses = torch.stack([F.cross_entropy(w[i] * f[i], y) for i in range(len(f))])
        if r.epoch == 0:
            r.memory["first"].append(losses.detach())
        first = torch.stack(r.memory["first"]).mean(0)
        left = losses.detach() / first
        ratio = left / left.mean() if r.epoch else torch.ones_like(left)
        n = w[:, None] * f.detach().norm(dim=-1)
        distance = (n - (ratio[:, None] * n.mean(0)).detach()).abs().sum(0).mean()
        r.optimizer.zero_grad()
        r.memory["adam"].zero_grad()
        (losses.sum() + distance).backward()
        r.optimizer.step()
        r.memory["adam"].step()
        with torch.no_grad():
            w.clamp_(0.05, 20)

    compare("olm", step, {"lr_w": 0.01}, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
def test_g2d(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        f = r.fused(h)
        loss, scores = F.cross_entropy(f, y), {}
        for m in r.names:
            with torch.no_grad():
                target, t = r.ctx.modules[m](x[m])
            soft = F.kl_div((f / 2).log_softmax(1), (t / 2).softmax(1), reduction="batchmean")
            loss = loss + 4 * soft + 0.5 * F.mse_loss(h[m], target)
            scores[m] = truth(t, y).sum().item()

        def change() -> None:
            if r.epoch > EPOCHS // 2:
                return
            for m in r.names:
                for g in r.convolutions(m):
                    g.mul_(1.0 if scores[m] == min(scores.values()) else 0.0)

        r.update(loss, change)

    settings = {"temperature": 2.0, "feature_weight": 0.5, "priority_end": 0.5, "teacher_epochs": 0.5}
    compare("g2d", step, settings, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
def test_remix(optimizer: str, modalities: int) -> None:
    def divide(r: Replay) -> None:
        r.memory["own"] = None
        if r.epoch < 2:
            return
        part = r.ctx.parts["train"]
        r.model.eval()
        with torch.no_grad():
            h = r.features(part.inputs)
            kl = []
            for m in r.names:
                p = F.softmax(r.modules[m](h[m]), 1)
                kl.append((p * (p * p.shape[1]).log()).sum(1))
        rows = torch.stack(kl, 1).tolist()
        r.memory["own"] = [max(i for i, value in enumerate(row) if value == min(row)) for row in rows]

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h, own = r.features(x), r.memory["own"]
        if own is None:
            extra: Any = sum(F.cross_entropy(r.modules[m](h[m]), y) for m in r.names)
            r.update(F.cross_entropy(r.fused(h), y) + 0.5 * extra)
            return
        (k,) = {own[i] for i in r.memory["batch"].index.tolist()}
        m = r.names[k]
        silent = {n: v if n == m else torch.zeros_like(v) * v for n, v in h.items()}
        r.update(F.cross_entropy(r.fused(silent), y) + 0.7 * F.cross_entropy(r.modules[m](h[m]), y))

    settings = {"warmup": 0.25, "gamma": 0.7, "weight": 0.5}
    compare("remix", step, settings, optimizer=optimizer, modalities=modalities, epoch_start=divide)
