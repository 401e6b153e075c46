"""A start from encoders and heads that were trained on one modality each."""

from __future__ import annotations

import torch
from torch import nn

from balance_tune.modulations.context import Context


@torch.no_grad()
def start_from_teachers(ctx: Context, share: float, heads: nn.ModuleDict) -> None:
    """Train each modality alone for a share of the run, then copy its encoder into the model and its head to `heads`.

    For the first epoch in which a method acts: a resumed run is past it.

    Args:
        ctx: of the run; the training is charged to it.
        share: of the run's epochs, at least one epoch.
        heads: modality -> linear head (d_m, C); a modality without one keeps its encoder only.
    """
    epochs = max(1, round(share * ctx.epochs))
    for m in ctx.model.modalities:
        with torch.enable_grad():
            teacher = ctx.teacher(m, epochs)
        ctx.model.encoders[m].load_state_dict(teacher.encoder.state_dict())
        if m in heads:
            heads[m].load_state_dict(teacher.head.state_dict())
