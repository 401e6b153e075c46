"""MCR's game: which modality's exchange between samples may change the fused answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from balance_tune.models.fusion import Features, Fusion, frozen
from balance_tune.modulations.answers import precise
from balance_tune.modulations.divergence import jensen_shannon

Game = Literal["greedy", "ind", "colab"]


def game(
    rows: Features,
    fused: Tensor,
    sigma: Tensor,
    kind: Game,
    answer: Callable[[Features], Tensor] | None = None,
    counts: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return L_game (0-d, with gradient) and JS of each single modality (0-d).

    Args:
        rows: {modality: (B, C)}, which add up to the logits without their bias; or features (B, d_m), with `answer`.
        fused: logits (B, C) of the samples as they are.
        sigma: (K, B), the samples whose rows are taken in each permutation.
        kind: of the game.
        answer: the logits (K, B, C) of features (K, B, d_m), where the head mixes modalities.
        counts: (K, B) bool, which samples and permutations count; all unless given.
    """
    greedy = kind == "greedy"
    fused = fused.detach() if greedy else fused
    bias = fused - torch.stack(list(rows.values())).sum(0) if answer is None else fused
    total, single = fused.new_zeros(()), {}
    for k in range(1, len(rows)):
        for chosen in combinations(rows, k):
            mixed = {}
            for m, x in rows.items():
                taken = x[sigma] if m in chosen else x.expand(len(sigma), *x.shape)
                if greedy:
                    mixed[m] = _turned(taken) if m in chosen else taken
                else:
                    mixed[m] = taken if m in chosen or kind == "colab" else taken.detach()
            if answer is None:
                permuted = (bias.detach() if greedy else bias) + torch.stack(list(mixed.values())).sum(0)
            else:
                permuted = answer(mixed)
            each = jensen_shannon(fused, permuted)
            js = each.mean() if counts is None else (each * counts).sum() / counts.sum().clamp_min(1)
            total = total + (js - js.detach() if greedy else -js)
            if k == 1:
                single[chosen[0]] = js.detach()
    return total, single


def game_of(
    fusion: Fusion,
    features: Features,
    fused: Tensor,
    sigma: Tensor,
    kind: Game,
    counts: Tensor | None,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the game of features {modality: (B, d_m)} under a fusion: of its linear parts, or of passes through it.

    The greedy game has no gradient in a head that mixes modalities: it cancels.
    """
    with autocast():
        parts = fusion.parts(features)
    if parts is not None:
        return game({m: precise(f) for m, f in parts.items()}, fused, sigma, kind, counts=counts)

    def answer(rows: Features) -> Tensor:
        with autocast(), frozen(fusion) if kind == "greedy" else nullcontext():
            return precise(fusion({m: x.flatten(0, 1) for m, x in rows.items()})).view(*sigma.shape, -1)

    return game(features, fused, sigma, kind, answer, counts)


def _turned(x: Tensor) -> Tensor:
    """Return x with its gradient reversed."""
    return 2 * x.detach() - x
