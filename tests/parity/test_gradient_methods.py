"""Methods that change gradients, features or learning rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replay import EPOCHS, OPTIMIZERS, Replay, compare, truth

BOTH = pytest.mark.parametrize("optimizer", OPTIMIZERS)
TWO_AND_THREE = pytest.mark.parametrize("modalities", [2, 3])


def plain(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
    r.update(F.cross_entropy(r.fused(r.features(x)), y))


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_joint(optimizer: str, modalities: int, fusion: str) -> None:
    compare("joint", plain, optimizer=optimizer, modalities=modalities, fusion=fusion)


def ratios(scores: dict[str, float]) -> dict[str, float]:
    """rho of each modality: the mean over the others of s_m / s_j."""
    return {m: sum(s / t for n, t in scores.items() if n != m) / (len(scores) - 1) for m, s in scores.items()}


def scores_of(r: Replay, h: dict[str, Tensor], y: Tensor) -> dict[str, float]:
    return {m: truth(f, y).sum().item() for m, f in r.own(h).items()}


def slow(r: Replay, rho: dict[str, float], alpha: float) -> None:
    for m, ratio in rho.items():
        k = 1 - torch.tanh(torch.tensor(alpha * max(ratio, 0.0), dtype=torch.float64)).item() if ratio > 1 else 1.0
        for g in r.convolutions(m):
            g.mul_(k)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("noisy", [False, True])
def test_ogm(optimizer: str, modalities: int, noisy: bool) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        rho = ratios(scores_of(r, h, y))

        def change() -> None:
            if r.epoch > EPOCHS // 2:
                return
            flat = [g for m in r.names for g in r.convolutions(m)]
            deviations = [g.std() + 1e-8 for g in flat]
            slow(r, rho, 0.8)
            if noisy:
                xi = r.ctx.shared_normal("noise", flat)
                for g, z, s in zip(flat, xi, deviations, strict=True):
                    g.add_(z * s)

        r.update(F.cross_entropy(r.fused(h), y), change)

    method = "ogm_ge" if noisy else "ogm"
    compare(method, step, {"alpha": 0.8, "end": 0.5}, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("both", [False, True])
def test_opm(optimizer: str, modalities: int, both: bool) -> None:
    q_base, lam, p_exe = 0.5, 0.5, 0.7

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        if r.epoch < 1:  # warm-up
            r.update(F.cross_entropy(r.fused(h), y))
            return
        rho = ratios(scores_of(r, h, y))
        kept = h
        if r.ctx.shared_coin("opm/coin", p_exe):
            z = {
                m: max(0.0, torch.tanh(torch.tensor(ratio - 1.0, dtype=torch.float64)).item())
                for m, ratio in rho.items()
            }
            q = {m: min(1.0, q_base * (1 + lam * z[m])) if z[m] > 0 else 0.0 for m in r.names}
            widths = {m: h[m].shape[1] for m in r.names}
            theta = sum(widths[m] * q[m] for m in r.names) / sum(widths.values())
            draws = r.ctx.shared_uniform("opm", len(r.names), 8)[:, : len(y)]
            kept = {m: h[m] * (draws[i] >= q[m]).double()[:, None] / (1 - theta) for i, m in enumerate(r.names)}
        r.update(F.cross_entropy(r.fused(kept), y), (lambda: slow(r, rho, 0.8)) if both else None)

    settings: dict[str, Any] = {"q_base": q_base, "lam": lam, "p_exe": p_exe, "start": 0.05}
    settings |= {"alpha": 0.8, "ogm_end": 1.0} if both else {}
    method = "opm_ogm" if both else "opm"
    compare(method, step, settings, optimizer=optimizer, modalities=modalities)


def multi(r: Replay, x: dict[str, Tensor], y: Tensor, weight: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    h = r.features(x)
    g = {m: r.modules[m](h[m]) for m in r.names}
    return F.cross_entropy(r.fused(h), y) + weight * sum(F.cross_entropy(f, y) for f in g.values()), g


@BOTH
@TWO_AND_THREE
def test_multi_loss(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        r.update(multi(r, x, y)[0])

    compare("multi_loss", step, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("beta_max", [2.0, 10.0])
@pytest.mark.parametrize("fusion", ["concat", "gated", "film"])
def test_mlb(optimizer: str, modalities: int, beta_max: float, fusion: str) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        loss, g = multi(r, x, y)
        s = {m: truth(f, y).mean().item() for m, f in g.items()}

        def change() -> None:
            for i, m in enumerate(r.names):
                ratio = sum(t for n, t in s.items() if n != m) / (len(s) - 1) / s[m]
                beta = beta_max if ratio > 1 else 2.0
                k = 1 + (beta - 1) * torch.tanh(torch.tensor(0.5 * (ratio - 1), dtype=torch.float64)).item()
                for p in [*r.model.encoders[m].parameters(), *r.modules[m].parameters()]:
                    p.grad.mul_(k)
                fused: Any = r.model.fusion
                if fusion == "concat":
                    start = sum(r.model.encoders[n].features for n in r.names[:i])
                    fused.head.weight.grad[:, start : start + r.model.encoders[m].features].mul_(k)
                elif fusion == "gated":
                    for p in fused.projections[m].parameters():
                        p.grad.mul_(k)

        r.update(loss, change)

    settings = {"alpha": 0.5, "beta_max": beta_max, "head": fusion != "film"}
    compare("mlb", step, settings, optimizer=optimizer, modalities=modalities, fusion=fusion)


@BOTH
@TWO_AND_THREE
def test_mslr(optimizer: str, modalities: int) -> None:
    memory = 3

    def accuracies(r: Replay) -> None:
        lr0 = {m: 1.0 for m in r.names}
        steps = max(len(r.names) - 1, 1)
        ladder = [0.6 ** (1 - i / steps) for i in range(len(r.names))]
        lr0 = {m: len(ladder) * w / sum(ladder) for m, w in zip(r.names, ladder, strict=True)}
        history = r.memory.setdefault("history", [])
        factor = dict.fromkeys(r.names, 1.0)
        if r.epoch:
            part = r.ctx.parts["monitor"]
            r.model.eval()
            with torch.no_grad():
                f = r.own(r.features(part.inputs))
            now = {m: (f[m].argmax(1) == part.labels).double().mean().item() for m in r.names}
            if len(history) >= memory:
                for m in r.names:
                    usual = sum(past[m] for past in history[-memory:]) / memory
                    factor[m] = now[m] / usual if usual > 0 else 1.0
            history.append(now)
        r.memory["factors"] = {m: lr0[m] * factor[m] for m in r.names}

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        def change() -> None:
            for m in r.names:
                for g in r.grads(m):
                    g.mul_(r.memory["factors"][m])

        r.update(F.cross_entropy(r.fused(r.features(x)), y), change)

    settings = {"ratio": 0.6, "memory": memory, "apply_to": "grad"}
    compare("mslr", step, settings, optimizer=optimizer, modalities=modalities, epoch_start=accuracies)


@BOTH
@pytest.mark.parametrize(("modalities", "current"), [(2, False), (3, False), (3, True)])
def test_agm(optimizer: str, modalities: int, current: bool) -> None:
    alpha, cap = 1.5, 10.0 if modalities == 2 else 7.0

    def answer(r: Replay, x: dict[str, Tensor], present: set[str]) -> Tensor:
        return r.fused(r.features({m: v if m in present else torch.zeros_like(v) for m, v in x.items()}))

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        names = r.names
        whole = answer(r, x, set(names))
        f = {}
        for m in names:
            others = [n for n in names if n != m]
            if len(names) == 2:
                f[m] = 0.5 * (whole - answer(r, x, set(others)) + answer(r, x, {m}))
            else:
                pairs = sum(answer(r, x, {m, n}) - answer(r, x, {n}) for n in others)
                f[m] = (whole - answer(r, x, set(others)) + answer(r, x, {m})) / 3 + pairs / 6
        losses = {m: -truth(f[m], y).clamp_min(1e-8).log().mean().item() for m in names}
        past = r.memory.setdefault("losses", [])
        seen = [*past, losses] if current else past
        usual = {m: sum(p[m] for p in seen) / len(seen) if seen else 0.0 for m in names}
        past.append(losses)

        def lead(of: dict[str, float], m: str) -> Tensor:
            mean = sum(of.values()) / len(of)
            return torch.exp(torch.tensor(len(of) / (len(of) - 1) * (mean - of[m]), dtype=torch.float64))

        for m in names:
            k = torch.exp(alpha * torch.clamp(lead(usual, m) - lead(losses, m), max=cap))
            f[m].register_hook(lambda g, k=k: g * k)

        def change() -> None:
            head: Any = r.model.fusion.head
            limit = 1.0 if len(names) == 2 else 5.0
            if head.weight.grad.abs().max() > limit:
                torch.nn.utils.clip_grad_norm_(r.parameters, limit)

        r.update(F.cross_entropy(torch.stack(list(f.values())).sum(0), y), change)

    settings = {"alpha": alpha, "include_current": current}
    compare("agm", step, settings, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
def test_cggm_without_its_bound(optimizer: str, modalities: int) -> None:
    rho, lam = 1.3, 0.2

    def groups(r: Replay) -> list[dict[str, Any]]:
        lr = OPTIMIZERS[optimizer]["lr"]
        return [
            {"params": list(r.model.parameters())},
            {"params": list(r.modules.parameters()), "lr": lr / 2},
        ]

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        g = {m: r.modules[m](h[m].detach()) for m in r.names}
        loss = F.cross_entropy(r.fused(h), y) + sum(F.cross_entropy(f, y) for f in g.values())
        pull = r.memory.get("pull")
        now = {m: (f.argmax(1) == y).double().mean().item() for m, f in g.items()}
        before = r.memory.get("accuracy", dict.fromkeys(r.names, 0.0))
        r.memory["accuracy"] = now
        d = {m: now[m] - before[m] for m in r.names}
        total = sum(d.values()) + 1e-8
        c = {m: (total - d[m]) / total for m in r.names}

        def change() -> None:
            head: Any = r.model.fusion.head
            if pull is not None:
                head.weight.grad.add_(lam * pull)
            weight = head.weight.detach().clone().requires_grad_()
            start, terms = 0, []
            for m in r.names:
                width = r.model.encoders[m].features
                own = r.modules[m].weight.detach()
                cosine = F.cosine_similarity(own.flatten(), weight[:, start : start + width].flatten(), dim=0)
                terms.append(abs(c[m]) - c[m] * cosine)
                start += width
            (r.memory["pull"],) = torch.autograd.grad(sum(terms) / len(terms), weight)
            for m in r.names:
                for grad in r.grads(m):
                    grad.mul_(rho * c[m])
            torch.nn.utils.clip_grad_norm_(r.model.parameters(), 0.8)

        r.update(loss, change)

    compare("cggm", step, {"bound": 0.0}, optimizer=optimizer, modalities=modalities, groups=groups)


@BOTH
@TWO_AND_THREE
def test_mmpareto(optimizer: str, modalities: int) -> None:
    gamma = 1.0

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        fused = F.cross_entropy(r.fused(h), y)
        own = {m: F.cross_entropy(r.modules[m](h[m]), y) for m in r.names}
        both = {}
        for m in r.names:
            weights = list(r.model.encoders[m].parameters())
            a = torch.autograd.grad(fused, weights, retain_graph=True)
            b = torch.autograd.grad(own[m], weights, retain_graph=True)
            both[m] = a, b

        def change() -> None:
            for m, (a, b) in both.items():
                u, v = (torch.cat([g.flatten() for g in gs]) for gs in (a, b))
                if u @ v > 0:
                    w = 0.5
                elif u @ v >= u @ u:
                    w = 0.999
                elif u @ v >= v @ v:
                    w = 0.001
                else:
                    w = ((v @ v - u @ v) / ((u - v) @ (u - v))).item()
                for p, s, t in zip(r.model.encoders[m].parameters(), a, b, strict=True):
                    new = 2 * w * s + 2 * (1 - w) * t
                    longer = (s + t).norm() / new.norm()
                    p.grad = gamma * new * max(1.0, longer.item())

        r.update(fused + sum(own.values()), change)

    compare("mmpareto", step, {"gamma": gamma}, optimizer=optimizer, modalities=modalities)
