"""The score nearly every method watches: how sure a modality is of the true class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Scores = dict[str, Tensor]
Values = Tensor | tuple[float, ...]
"""One number per modality: (M,) on a device, or on the host, where arithmetic with so few costs next to nothing."""


def true_class_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax(logits)[..., labels] in float32 or better, (..., B); no synchronisation.

    Several labels at once: the mean over labels of the probability of what is true, there or not.

    Args:
        logits: (..., B, C).
        labels: (B,) of classes, or (B, C) of 0 and 1.
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if labels.dim() == 2:
        return torch.where(labels > 0.5, logits, -logits).to(dtype).sigmoid().mean(-1)
    index = labels.view(-1, 1).expand(*logits.shape[:-1], 1)
    return logits.softmax(-1, dtype=dtype).gather(-1, index).squeeze(-1)


def score_sums(logits: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Return (M,), each modality's sum over the batch of the true class's probability.

    Args:
        logits: {modality: (B, C)}.
        labels: (B,) of classes, or (B, C) of 0 and 1.
    """
    return score_sums_by_class(torch.stack([f.detach().t() for f in logits.values()]), labels)


def score_sums_by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Return what `score_sums` does.

    Args:
        logits: (M, C, B), the layout in which it is fastest where classes are few.
        labels: (B,) of classes, or (B, C) of 0 and 1.
    """
    if labels.dim() == 2:
        return true_class_probability(logits.transpose(1, 2), labels).sum(-1)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.softmax(1, dtype=dtype).gather(1, labels.expand(len(logits), 1, -1)).sum((1, 2))


def ratios(s: Tensor) -> Tensor:
    """Return rho (M,): rho_m = 1/(M-1) sum_{j != m} s_m / s_j.

    The journal form of OGM; for two modalities the plain ratio, 1 for a single one. Scores are
    guarded by 1e-8 against underflow.

    Args:
        s: scores (M,).
    """
    if len(s) == 1:
        return torch.ones_like(s)
    s = s.clamp_min(1e-8)
    if len(s) == 2:
        return s / s.flip(0)
    return (s.unsqueeze(1) / s).sum(1).sub_(1).div_(len(s) - 1)


def ratios_on_host(s: Sequence[float]) -> tuple[float, ...]:
    """Return what `ratios` does, as plain numbers.

    Args:
        s: scores, one a modality.
    """
    if len(s) == 1:
        return (1.0,)
    s = [max(x, 1e-8) for x in s]
    return tuple(sum(x / y for j, y in enumerate(s) if j != i) / (len(s) - 1) for i, x in enumerate(s))


class _OfNumbers:
    """The functions of `elementwise` for numbers, under torch's names."""

    tanh = staticmethod(math.tanh)

    @staticmethod
    def clamp(x: float, low: float, high: float) -> float:
        return min(high, max(low, x))


def elementwise(
    formula: Callable[[Any, Any, Any], Any], values: Values, flags: tuple[bool, ...] | None = None
) -> Values:
    """Return `formula(x, flag, xp)` of each modality, computed where the values are.

    Args:
        formula: arithmetic and comparisons of x, with functions `xp.tanh` and `xp.clamp`; x is a number, or all
            modalities' values (M,) at once.
        values: on the host or on a device.
        flags: of each modality, known on the host; all false unless given.
    """
    flags = flags or (False,) * len(values)
    if isinstance(values, tuple):
        return tuple(float(formula(x, flag, _OfNumbers)) for x, flag in zip(values, flags, strict=True))
    result: Tensor = formula(values, _on_device(flags, values.device), torch)
    return result


@lru_cache(maxsize=64)
def _on_device(flags: tuple[bool, ...], device: torch.device) -> Tensor:
    tensor = torch.zeros(len(flags), dtype=torch.bool, device=device)
    for i, flag in enumerate(flags):
        tensor[i].fill_(flag)  # a copy of a tensor made on the host would wait for it
    return tensor


def as_tensor(values: Values) -> Tensor:
    """Return values as a tensor (M,).

    Args:
        values: a tensor (M,), or plain numbers.
    """
    return values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)


def by_name(values: Tensor, names: Mapping[str, object]) -> dict[str, Tensor]:
    """Return {modality: 0-d tensor}.

    Args:
        values: (M,).
        names: mapping whose keys are the M modalities, in order.
    """
    return dict(zip(names, values.unbind(), strict=True))


def stacked(scores: Scores) -> Tensor:
    """Return scores as a tensor (M,).

    Args:
        scores: {modality: 0-d tensor}.
    """
    return torch.stack(list(scores.values()))
