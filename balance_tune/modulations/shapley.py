"""Each modality's Shapley share of the fused answer, from answers with other modalities' inputs zeroed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.modulations.answers import precise
from balance_tune.modulations.batch import Batch
from balance_tune.modulations.context import Context
from balance_tune.modulations.scores import by_name


def subsets(modalities: Sequence[str]) -> list[frozenset[str]]:
    """Return every non-empty set of modalities, the full set first, then smaller ones."""
    return [frozenset(s) for size in range(len(modalities), 0, -1) for s in combinations(modalities, size)]


def mono_modal_logits(answers: Mapping[frozenset[str], Tensor], modalities: Sequence[str]) -> dict[str, Tensor]:
    """Return f_m (B, C), each modality's Shapley share of the answers F(S) (B, C) of all sets S of present modalities.

    f_m = sum_{S without m} |S|! (M-|S|-1)! / M! (F(S + m) - F(S)) with F(nothing) = 0, so that sum_m f_m = F(all).
    For two: f_a = 1/2 (F(a,v) - F(0,v) + F(a,0)).
    """
    stacked = torch.stack(list(answers.values()))
    weights = _shapley_weights(tuple(modalities), tuple(answers), stacked.dtype, stacked.device)
    return by_name(torch.tensordot(weights, stacked, dims=1), dict.fromkeys(modalities))


@cache
def _shapley_weights(
    modalities: tuple[str, ...], sets: tuple[frozenset[str], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return (M, sets), the weight of F(S) in f_m: positive where S contains m."""
    n, rows = len(modalities), []
    for m in modalities:
        others = [len(s - {m}) for s in sets]
        sizes = [factorial(k) * factorial(n - k - 1) / factorial(n) for k in others]
        rows.append([size if m in s else -size for s, size in zip(sets, sizes, strict=True)])
    return torch.tensor(rows, dtype=dtype).to(device, non_blocking=True)


def silenced_answers(features: Features, batch: Batch, ctx: Context) -> dict[frozenset[str], Tensor]:
    """Return F(S) (B, C) for every proper subset S of the modalities, with gradient.

    A zero input is encoded in evaluation mode, once per encoder as a single sample (all its rows are equal there), and
    meets the step's own features of the modalities in S. A fusion that masks gets no features of it, as in evaluation.
    """
    model = ctx.model
    model.eval()
    with ctx.autocast():
        if model.fusion.masks:
            zero = {m: torch.zeros_like(h[:1]) for m, h in features.items()}
        else:
            zero = {m: model.encoders[m](x.new_zeros(1, *x.shape[1:])) for m, x in batch.inputs.items()}
        answers = {}
        for present in subsets(model.modalities)[1:]:
            mixed = {m: h if m in present else zero[m].expand_as(h) for m, h in features.items()}
            answers[present] = precise(model.fusion(mixed))
    model.train()
    return answers
