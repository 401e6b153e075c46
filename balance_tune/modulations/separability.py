"""How well a modality's features separate the classes without labels: k-means clusters and their purity."""

from __future__ import annotations

import torch
from torch import Tensor

CHECK_EVERY = 10  # iterations of k-means on a device, where a look at whether it has converged waits for it


def purity(labels: Tensor, clusters: Tensor, size: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (1/N) sum over clusters of the size of their largest class, 0-d in [0, 1], from two integer (N,).

    With `size`, all numbers must be below it; without, the host waits for the device to learn which there are.
    """
    if labels.shape != clusters.shape or labels.dim() != 1 or not len(labels):
        raise ValueError(
            f"labels and clusters must be two (N,) tensors, but got {tuple(labels.shape)}, {tuple(clusters.shape)}."
        )
    if size is None:
        kinds, both = torch.cat([labels, clusters]).unique(return_inverse=True)
        (labels, clusters), size = both.chunk(2), len(kinds)
    counts = labels.new_zeros(size * size).index_add_(0, clusters * size + labels, torch.ones_like(labels))
    return counts.view(size, size).amax(1).sum().to(dtype) / len(labels)


def minmax(features: Tensor) -> Tensor:
    """Return features (N, d) scaled to [-1, 1] per dimension over these rows; a constant dimension becomes -1."""
    low, high = features.amin(0), features.amax(0)
    return 2 * (features - low) / torch.where(high > low, high - low, 1.0) - 1


def kmeans(
    features: Tensor, k: int, *, n_init: int, generator: torch.Generator, iterations: int = 100, tolerance: float = 1e-4
) -> Tensor:
    """Return cluster numbers (N,) of Lloyd's algorithm with k-means++ starts; the best of `n_init` starts by inertia.

    All starts run together on the features' device. Draws come from `generator` alone (a CPU generator), so the result
    does not depend on the device but for rounding. `tolerance` is relative to the mean variance, as in scikit-learn.
    On a device the host waits only every `CHECK_EVERY` iterations.
    """
    x = features if features.dtype == torch.float64 else features.float()
    x = x - x.mean(0)
    if k >= len(x):
        return torch.arange(len(x), device=x.device)
    squares = x.square().sum(1)
    firsts, draws = _draws(len(x), k, n_init, generator, x.device)
    centres = torch.stack([_plus_plus(x, squares, *each) for each in zip(firsts, draws, strict=True)])
    limit = tolerance * x.var(0, unbiased=False).mean()
    every = 1 if x.device.type == "cpu" else CHECK_EVERY
    converged = torch.zeros((), dtype=torch.bool, device=x.device)
    for iteration in range(1, iterations + 1):
        moved = _means(x, _nearest(x, centres)[1], centres)
        shift = (moved - centres).square().sum((1, 2)).max()
        centres = torch.where(converged, centres, moved)
        converged = converged | (shift <= limit)
        if iteration % every == 0 and converged:
            break
    distance, nearest = _nearest(x, centres)
    inertia = (distance + squares).clamp_min(0).sum(1)
    return nearest.index_select(0, inertia.argmin().view(1))[0]


def _draws(rows: int, k: int, n_init: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first centre's row (n_init, 1) of each start, and uniform numbers (n_init, k - 1, candidates)."""
    candidates = 2 + int(torch.tensor(float(k)).log())
    firsts, draws = [], []
    for _ in range(n_init):
        firsts.append(torch.randint(rows, (1,), generator=generator))
        each = [torch.rand(candidates, generator=generator, dtype=torch.float64) for _ in range(1, k)]
        draws.append(torch.stack(each) if each else torch.empty(0, candidates, dtype=torch.float64))
    both = torch.cat([torch.stack(firsts).double(), torch.stack(draws).flatten(1)], dim=1).to(device, non_blocking=True)
    return both[:, :1].long(), both[:, 1:].view(n_init, k - 1, candidates)


def _plus_plus(x: Tensor, squares: Tensor, first: Tensor, draws: Tensor) -> Tensor:
    """Return k centres (k, d) by k-means++ with 2 + log(k) candidates per centre, the greedy form.

    first (1,) is the row of the first centre, draws (k - 1, candidates) choose those of the others.
    """
    chosen = [x.index_select(0, first)[0]]
    closest = (squares + squares.index_select(0, first) - 2 * (x @ chosen[0])).clamp_min(0)
    for row in draws:
        cumulative = closest.double().cumsum(0)
        picks = torch.searchsorted(cumulative, row * cumulative[-1]).clamp_max(len(x) - 1)
        candidates = x[picks]
        distances = (squares[:, None] + squares[picks] - 2 * (x @ candidates.T)).clamp_min(0)
        potential = torch.minimum(closest[:, None], distances)
        best = potential.sum(0).argmin().view(1)
        closest = potential.index_select(1, best)[:, 0]
        chosen.append(candidates.index_select(0, best)[0])
    return torch.stack(chosen)


def _nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distance less |x|^2, and number of the nearest centre, both (n_init, N)."""
    n, k, d = centres.shape
    products = (x @ centres.reshape(n * k, d).T).view(len(x), n, k)
    distance, nearest = (centres.square().sum(2) - 2 * products).min(2)
    return distance.T, nearest.T


def _means(x: Tensor, nearest: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of each cluster (n_init, k, d); an empty cluster keeps its centre."""
    n, k, d = centres.shape
    flat = (nearest + torch.arange(n, device=x.device)[:, None] * k).reshape(-1)
    sums = torch.zeros(n * k, d, dtype=x.dtype, device=x.device).index_add_(0, flat, x.repeat(n, 1))
    counts = x.new_zeros(n * k).index_add_(0, flat, x.new_ones(len(flat)))[:, None]
    return torch.where(counts > 0, sums / counts.clamp_min(1), centres.reshape(n * k, d)).view(n, k, d)
