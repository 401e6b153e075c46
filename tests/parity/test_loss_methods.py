"""Methods that change losses, the order of training, or the model."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.modulations.held_out import held_out
from balance_tune.seeds import generator
from tests.parity.replay import EPOCHS, OPTIMIZERS, Replay, compare, truth

BOTH = pytest.mark.parametrize("optimizer", OPTIMIZERS)
TWO_AND_THREE = pytest.mark.parametrize("modalities", [2, 3])


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("official", [True, False])
def test_pmr(optimizer: str, modalities: int, official: bool) -> None:
    alpha, mu = 1.0, 0.4

    def refresh(r: Replay) -> None:
        if r.epoch > 5:
            return
        order = r.ctx.plan().order
        old = r.memory.get("prototypes")
        rows = order[:8] if old is not None or official else order  # a tenth of three batches is one batch
        part = r.ctx.parts["train"]
        r.model.eval()
        with torch.no_grad():
            h = r.features({m: part.inputs[m][rows] for m in r.names})
        y, new = part.labels[rows], {}
        keep = 0.0 if old is None or (official and r.epoch == 1) else mu
        for m in r.names:
            centres = []
            for c in range(3):
                mean = h[m][y == c].mean(0) if bool((y == c).any()) else None
                if old is None:
                    centres.append(mean)
                else:
                    centres.append(old[m][c] if mean is None else (1 - keep) * mean + keep * old[m][c])
            new[m] = torch.stack(centres)
        r.memory["prototypes"] = new

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        loss = F.cross_entropy(r.fused(h), y)
        if r.epoch <= 5:
            sim = {m: -torch.stack([(h[m] - c).norm(dim=1) for c in r.memory["prototypes"][m]], 1) for m in r.names}
            s = {m: truth(f, y).sum().item() for m, f in sim.items()}
            for m in r.names:
                if s[m] < max(s.values()):
                    loss = loss + alpha * F.cross_entropy(sim[m], y)
        r.update(loss)

    settings = {"alpha": alpha, "mu": mu, "official": official, "end": 0.67}
    compare("pmr", step, settings, optimizer=optimizer, modalities=modalities, epoch_start=refresh)


@BOTH
@TWO_AND_THREE
def test_mmcosine(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        fusion: Any = r.model.fusion
        f = 0
        for m, h in r.features(x).items():
            f = f + 10.0 * F.normalize(h, dim=1) @ F.normalize(fusion.weight[m], dim=1).T
        r.update(F.cross_entropy(f, y))

    compare("mmcosine", step, {"scale": 10.0}, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("official", [True, False])
def test_cml(optimizer: str, modalities: int, official: bool) -> None:
    lam = 2.0

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = dict(r.features(x))
        order = torch.randperm(len(r.names), generator=generator("cpu", r.ctx.seed, "cml", r.step)).tolist()
        chain = [r.fused(h)]
        for i in order[:-1]:
            h[r.names[i]] = torch.zeros_like(h[r.names[i]])
            chain.append(r.fused(h))
        loss = sum(F.cross_entropy(f, y) for f in chain) / len(r.names)
        for full, partial in pairwise(chain):
            total = 0
            for i, label in enumerate(y.tolist()):
                p, q = F.softmax(partial[i], 0), F.softmax(full[i], 0)
                more = torch.relu(p.max() - q.max())
                if official and q.argmax() != label:
                    more = torch.relu(p.max() - q.max().detach()) if p.argmax() != label else 0 * more
                total = total + more
            loss = loss + lam * total / len(y)
        r.update(loss)

    compare("cml", step, {"lam": lam, "official": official}, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("balance", ["fitted", "learnt"])
@pytest.mark.parametrize("official", [True, False])
def test_lfm(optimizer: str, modalities: int, balance: str, official: bool) -> None:
    def apart(r: Replay, h: dict[str, Tensor]) -> Tensor:
        fusion: Any = r.model.fusion
        f = {m: fusion.heads[m](h[m]) for m in r.names}
        terms = []
        for a, b in combinations(r.names, 2):
            p, q = F.softmax(f[a], 1), F.softmax(f[b], 1)
            m = (p + q) / 2
            if official:
                terms.append(
                    0.5 * (F.kl_div(p.log(), m, reduction="batchmean") + F.kl_div(q.log(), m, reduction="batchmean"))
                )
            else:
                terms.append(
                    0.5 * (F.kl_div(m.log(), p, reduction="batchmean") + F.kl_div(m.log(), q, reduction="batchmean"))
                )
        return sum(terms) / len(terms)

    def balanced(r: Replay) -> None:
        if balance == "fitted":
            e = 200 * r.epoch / EPOCHS
            c = [7.95376296e-01, -3.35472727e-03, -1.22989557e-04, 2.92947416e-06, -2.23835486e-08, 5.39717505e-11]
            r.memory["a1"] = sum(x * e**k for k, x in enumerate(c))
            return
        a1 = r.memory.setdefault("a1", 0.3)
        batch = held_out(r.ctx, "lfm", r.epoch)
        r.model.eval()
        h = r.features(batch.inputs)
        ce = F.cross_entropy(r.fused(h), batch.labels)
        total = (1 - a1) * ce + a1 * apart(r, h)
        weights = list(r.model.parameters())
        v = torch.autograd.grad(ce, weights, retain_graph=True)
        g = torch.autograd.grad(total, weights, create_graph=True)
        count = 1 if official else len(weights)
        product = torch.autograd.grad(sum((a * b).sum() for a, b in zip(g[:count], v, strict=False)), weights[:count])
        slope = torch.cat([p.flatten() for p in product]).mean().item()
        rate = 5.0 * 0.5 ** (r.epoch // max(1, round(0.2 * EPOCHS)))
        r.memory["a1"] = min(0.95, max(0.05, a1 - rate * slope))

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        a1, h = r.memory["a1"], r.features(x)
        r.update(2 * ((1 - a1) * F.cross_entropy(r.fused(h), y) + a1 * apart(r, h)))

    compare(
        "lfm",
        step,
        {"a1": 0.3, "lr_a": 5.0, "balance": balance, "official": official},
        optimizer=optimizer,
        modalities=modalities,
        fusion="late",
        epoch_start=balanced,
    )


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("form", ["plain", "official", "ours"])
def test_mla(optimizer: str, modalities: int, form: str) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        head: Any = r.model.fusion.head
        r.memory.setdefault("p", torch.eye(head.in_features, dtype=torch.float64))
        alpha = 0.1 ** (1 + (r.step % 3) / 3)
        features = r.features(x)  # of the step's beginning: each encoder is updated by its own loss alone
        weight = head.weight
        for i, m in enumerate(r.names):
            h = features[m]
            r.optimizer.zero_grad()
            F.cross_entropy(head(h), y).backward()
            mean = h.detach().mean(0, keepdim=True)

            def remember(divided_by_matrix: bool, mean: Tensor = mean) -> None:
                k = r.memory["p"] @ mean.T
                below = k @ mean if divided_by_matrix else (mean @ k)
                q = r.memory["p"] - k @ k.T / (alpha + below)
                r.memory["p"] = q / q.norm()

            if form == "official" and not (r.step == 0 and i == 0):
                remember(True)
            if form != "plain":
                weight.grad = weight.grad @ r.memory["p"].T
            r.optimizer.step()
            if form == "ours":
                remember(False)

    settings = {"projected": form != "plain", "official": form == "official"}
    slower = 0.02 if form == "official" else 1.0  # its division by a matrix, nearly singular, multiplies rounding
    compare("mla", step, settings, optimizer=optimizer, modalities=modalities, alike=True, slower=slower)


@BOTH
@TWO_AND_THREE
def test_reconboost(optimizer: str, modalities: int) -> None:
    w1, w2, alpha = 5.0, 1.0, 0.5

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        fusion: Any = r.model.fusion
        h = r.features(x)
        f = {m: fusion.heads[m](h[m]) for m in r.names}
        every = 2
        phase = r.epoch // every
        if phase % 2:
            r.update(F.cross_entropy(fusion.rate * sum(f.values()), y))
            return
        turn = phase // 2 % len(r.names)
        m, before = r.names[turn], r.names[turn - 1]
        others = fusion.rate.detach() * sum(v.detach() for n, v in f.items() if n != m)
        boosted = w1 - w2 * truth(others, y)
        loss = (boosted * -torch.log(truth(f[m], y))).mean() / f[m].shape[1]
        apart = (F.softmax(f[m], 1) - F.softmax(f[before].detach(), 1)).square().mean()
        r.update(loss + alpha * apart)

    settings = {"w1": w1, "w2": w2, "alpha": alpha, "rate": 1.0, "phase": 0.25}
    compare("reconboost", step, settings, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
def test_umt(optimizer: str, modalities: int) -> None:
    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        loss = F.cross_entropy(r.fused(h), y)
        for m in r.names:
            with torch.no_grad():
                target = r.ctx.modules[m](x[m])
            loss = loss + 0.5 * F.mse_loss(h[m], target)
        r.update(loss)

    settings = {"scaling": 0.5, "teacher_epochs": 0.3}
    compare("umt", step, settings, optimizer=optimizer, modalities=modalities)


@BOTH
@TWO_AND_THREE
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_amco(optimizer: str, modalities: int, fusion: str) -> None:
    """For linear heads: f = A sum_m k_m f_m + c, k_m the mask of a modality that the answer depends on."""
    sigma, eps, masked = 1.02 / modalities, 0.9, []

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        mixed: Any = r.model.fusion
        head, h = mixed.inner, r.features(x)
        if fusion == "concat":
            width = [r.model.encoders[m].features for m in r.names]
            columns = head.head.weight.split(width, dim=1)
            f = {m: h[m] @ w.T + head.head.bias / len(r.names) for m, w in zip(r.names, columns, strict=True)}
        else:
            f = {m: h[m] @ head.heads[m].weight.T + head.heads[m].bias for m in r.names}
        share = {m: 0.0 for m in r.names}
        for i in range(len(y)):
            together = F.softmax(torch.cat([f[m][i].detach() for m in r.names]), 0)
            for j, m in enumerate(r.names):
                share[m] += together[3 * j : 3 * j + 3].sum().item() / len(y)
        zeros = int(math.sin(math.pi / 2 * min(eps, r.epoch / EPOCHS) / eps) * 3)
        order = torch.randperm(3, generator=r.ctx.shared_generator("amco"))
        mask = (order >= zeros).double()
        z = [f[m] * mask if share[m] > sigma else f[m] for m in r.names]
        masked.append((zeros, sum(s > sigma for s in share.values())))
        own: Any = sum(F.cross_entropy(v, y) for v in f.values())
        r.update(F.cross_entropy(torch.stack(z).sum(0) @ mixed.mix.weight.T + mixed.mix.bias, y) + own)

    settings = {"sigma": sigma, "eps": eps}
    compare("amco", step, settings, optimizer=optimizer, modalities=modalities, fusion=fusion)
    assert {zeros for zeros, _ in masked} == {0, 1, 2}
    assert max(dependent for _, dependent in masked) >= 1


@BOTH
@TWO_AND_THREE
def test_mbsd(optimizer: str, modalities: int) -> None:
    weight = 1.3

    def step(r: Replay, x: dict[str, Tensor], y: Tensor) -> None:
        h = r.features(x)
        f = r.own(h)
        loss: Any = F.cross_entropy(r.fused(h), y)
        loss = loss + weight * sum(F.cross_entropy(v, y) for v in f.values())
        pairs = list(combinations(r.names, 2))
        for a, b in pairs:
            for i, label in enumerate(y.tolist()):
                p, q = F.softmax(f[a][i], 0), F.softmax(f[b][i], 0)
                if label not in (int(p.argmax()), int(q.argmax())):
                    continue
                bias = (p[label] - q[label]).abs().detach()
                surer, other = (p, q) if p[label] >= q[label] else (q, p)
                taught = F.kl_div(other.log(), surer.detach(), reduction="sum")
                drawn = bias * ((f[a][i] - f[b][i]).square().mean() + taught)
                loss = loss + weight * drawn / len(y) / len(pairs)
        r.update(loss)

    compare("mbsd", step, {"weight": weight}, optimizer=optimizer, modalities=modalities)
