"""What each modality answers by itself in a step, with gradient: the input of every loss on single modalities."""

from __future__ import annotations

from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.modulations.context import Context


def precise(logits: Tensor) -> Tensor:
    """Return logits in single precision or better, as losses need them."""
    return logits.float() if logits.dtype.itemsize < 4 else logits


def unimodal_answers(features: Features, ctx: Context) -> dict[str, Tensor]:
    """Return the fusion's f_m, {modality: (B, C)}, with gradient through fusion and encoders."""
    with ctx.autocast():
        return {m: precise(f) for m, f in ctx.model.fusion.unimodal_logits(features).items()}


def fused_answer(features: Features, ctx: Context) -> Tensor:
    """Return the fusion's answer (B, C) to other features than the step's own, with gradient."""
    with ctx.autocast():
        return precise(ctx.model.fusion(features))
