"""The score nearly every method watches: how sure a modality is of the true class."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Scores = dict[str, Tensor]


def true_class_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax(logits)[..., labels] in float32 or better, (..., B) from (..., B, C); no synchronisation."""
    precise = logits if logits.dtype == torch.float64 else logits.float()
    picked = precise.gather(-1, labels.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return (picked - precise.logsumexp(-1)).exp()


def score_sums(logits: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Return (M,), each modality's sum over the batch of the true class's probability, from {modality: (B, C)}."""
    stacked = torch.stack([f.detach() for f in logits.values()])
    return true_class_probability(stacked, labels).sum(-1)


def ratios_to_mean_of_others(scores: Scores) -> Scores:
    """Return rho_m = 1/(M-1) sum_{j != m} s_m / s_j for each modality.

    The journal form of OGM; for two modalities the plain ratio. Scores are guarded by 1e-8 against underflow.
    """
    s = torch.stack(list(scores.values())).clamp_min(1e-8)
    matrix = s.unsqueeze(1) / s.unsqueeze(0)
    rho = (matrix.sum(1) - 1) / (len(scores) - 1)
    return dict(zip(scores, rho.unbind(), strict=True))
