"""A contrastive loss that draws features of one class together, whichever modality they are of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(features: Mapping[str, Tensor], labels: Tensor, temperature: float) -> Tensor:
    """Return the NT-Xent loss with labels (0-d) over all modalities' unit features {modality: (B, d)}.

    Mean over ordered pairs i != j of one label of -log(e_ij / (e_ij + sum over k of other labels of e_ik)),
    e_ij = exp(cos(h_i, h_j) / temperature); 0 where there is no such pair.
    """
    h = F.normalize(torch.cat(list(features.values())), dim=1)
    y = labels.repeat(len(features))
    similar = h @ h.T / temperature
    same = y.unsqueeze(1) == y
    others = similar.masked_fill(same, torch.finfo(similar.dtype).min / 4).logsumexp(1, keepdim=True)
    pairs = same.to(similar.dtype).fill_diagonal_(0)
    return (F.softplus(others - similar) * pairs).sum() / pairs.sum().clamp_min(1)
