"""How well a modality's features separate the classes without labels: k-means clusters and their purity."""

from __future__ import annotations

import torch
from torch import Tensor


def purity(labels: Tensor, clusters: Tensor) -> Tensor:
    """Return (1/N) sum over clusters of the size of their largest class, 0-d in [0, 1], from two integer (N,)."""
    if labels.shape != clusters.shape or labels.dim() != 1 or not len(labels):
        raise ValueError(
            f"labels and clusters must be two (N,) tensors, but got {tuple(labels.shape)}, {tuple(clusters.shape)}."
        )
    _, labels = labels.unique(return_inverse=True)
    _, clusters = clusters.unique(return_inverse=True)
    classes = int(labels.max()) + 1
    counts = torch.bincount(clusters * classes + labels, minlength=classes * (int(clusters.max()) + 1))
    return counts.view(-1, classes).amax(1).sum() / len(labels)


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
    """
    x = features if features.dtype == torch.float64 else features.float()
    x = x - x.mean(0)
    if k >= len(x):
        return torch.arange(len(x), device=x.device)
    squares = x.square().sum(1)
    centres = torch.stack([_plus_plus(x, squares, k, generator) for _ in range(n_init)])
    limit = tolerance * x.var(0, unbiased=False).mean()
    for _ in range(iterations):
        nearest = _nearest(x, centres)[1]
        moved = _means(x, nearest, centres)
        shift = (moved - centres).square().sum((1, 2)).max()
        centres = moved
        if shift <= limit:
            break
    distance, nearest = _nearest(x, centres)
    inertia = (distance + squares).clamp_min(0).sum(1)
    return nearest[inertia.argmin()]


def _plus_plus(x: Tensor, squares: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ with 2 + log(k) candidates per centre, the greedy form."""
    candidates = 2 + int(torch.tensor(float(k)).log())
    first = int(torch.randint(len(x), (1,), generator=generator))
    chosen = [first]
    closest = (squares + squares[first] - 2 * (x @ x[first])).clamp_min(0)
    for _ in range(1, k):
        draws = torch.rand(candidates, generator=generator, dtype=torch.float64).to(x.device)
        cumulative = closest.double().cumsum(0)
        picks = torch.searchsorted(cumulative, draws * cumulative[-1]).clamp_max(len(x) - 1)
        distances = (squares[:, None] + squares[picks] - 2 * (x @ x[picks].T)).clamp_min(0)
        potential = torch.minimum(closest[:, None], distances)
        best = int(potential.sum(0).argmin())
        closest = potential[:, best]
        chosen.append(int(picks[best]))
    return x[chosen]


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
    counts = torch.bincount(flat, minlength=n * k).to(x.dtype)[:, None]
    return torch.where(counts > 0, sums / counts.clamp_min(1), centres.reshape(n * k, d)).view(n, k, d)
