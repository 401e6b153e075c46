"""DGL: encoders learn from their own answers only, the fusion from the fused answer only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balance_tune.models.fusion import Features
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.tunable import tunable


@dataclass
class Dgl(Modulation):
    """Disentangled gradient learning: the fused loss does not reach the encoders, own losses do not reach the fusion.

    L = CE(F(sg h_1, ..., sg h_M), y) + alpha sum_m CE(F_m^sg(h_m), y)
    sg: no gradient to the features;  F^sg: no gradient to the fusion's parameters;  F_m: its answer to modality m alone

    F_m is the fusion head with every bias in full: W_m h_m + b for concat, each modality's own head for sum and late,
    for gated a modality gates itself, else the others' features are zero. One backward pass, exactly the official two.
    `alpha` multiplies the encoders' only gradient: search the learning rate down to 1 / (1 + alpha) of joint
    training's, or clip.
    Official code (shicaiwei123/ICCV2025-GDL): clips the norm of all gradients to 40 (here `training.clip_norm`); leaves
    the projections of a gated fusion at their initial values (here the fused loss trains them); its film is an outer
    product; drops the last test batch and chooses the epoch on test rows.
    """

    name: ClassVar[str] = "dgl"
    paper: ClassVar[str] = "Wei et al., Boosting Multimodal Learning via Disentangled Gradient Learning, ICCV 2025"
    cost: ClassVar[str] = "the fusion's answer to each modality alone, in the forward and the backward pass"

    alpha: float = tunable(4.0, low=0.5, high=10.0, log=True, source="the author's script for CREMA-D")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "alpha")

    def on_features(self, features: Features, batch: Batch, ctx: Context) -> tuple[Features, Batch]:
        return {m: h.detach() for m, h in features.items()}, batch

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        with ctx.autocast():
            answers = ctx.model.fusion.answers_alone(output.full_features, fixed=True)
        unimodal = {f"alone/{m}": self.alpha * ctx.loss(precise(f), output.batch) for m, f in answers.items()}
        return {**losses, **unimodal}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "at alpha = 0 the encoders learn nothing"
