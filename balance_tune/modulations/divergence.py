"""How far two answers are apart as distributions over classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Return JS(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q) / 2, in nats (...), from two logits (..., C)."""
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    m = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - m) + q.exp() * (q - m)).sum(-1)


def reverse_divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return 1/2 KL(m || p) + 1/2 KL(m || q), m = (p + q) / 2, in nats (...), from two logits (..., C)."""
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    m = torch.logaddexp(p, q) - math.log(2)
    return (m.exp() * (m - 0.5 * (p + q))).sum(-1)


def divergence(logits: Tensor, permuted: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence (0-d) of softmax between answers.

    Args:
        logits: (B, C) of the batch.
        permuted: (B, C), or (K B, C) in blocks of B, one for each permutation.
    """
    return jensen_shannon(logits, permuted.view(-1, *logits.shape)).mean()
