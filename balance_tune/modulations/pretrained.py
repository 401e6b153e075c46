"""Encoders that were trained on their modality alone first, then together, or frozen under a new head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.context import Context
from balance_tune.modulations.pretraining import start_from_teachers
from balance_tune.tunable import tunable


@dataclass
class Pretrained(Modulation):
    """Unimodal pretraining, then joint training of everything.

    before the first modulated epoch: each encoder with a linear head, CE(f_m, y), for `share` of the run's epochs
    then: L = CE(f, y) for the whole run, from these encoders and the fusion's own start

    Pretraining has the trial's recipe, its schedule stretched over its epochs, and is charged to the trial. In MCR's
    table this baseline comes within three points of the best method.
    """

    name: ClassVar[str] = "pretrained"
    paper: ClassVar[str] = "the common baseline of MCR and others"
    cost: ClassVar[str] = "a run of each modality alone beforehand, of `share` of the epochs"
    reads: ClassVar[str] = "a model of each modality trained alone beforehand (`ctx.teacher`)"

    share: float = tunable(0.5, choices=(0.25, 0.5, 1.0), source="half of the epochs: ours")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "share")

    def on_epoch_start(self, ctx: Context) -> None:
        if self.share and ctx.epoch == self.epochs_of_window(ctx.epochs).start:
            start_from_teachers(ctx, self.share, nn.ModuleDict())

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"share": 0.0})


@dataclass
class PretrainedFrozen(Pretrained):
    """Unimodal pretraining, then the fusion alone is trained on the frozen encoders.

    As `pretrained`, but encoders are in evaluation mode and have no gradient while the fusion is trained.
    """

    name: ClassVar[str] = "pretrained_frozen"

    share: float = tunable(1.0, choices=(0.25, 0.5, 1.0), source="as long as the run: ours")

    def on_epoch_start(self, ctx: Context) -> None:
        super().on_epoch_start(ctx)
        ctx.model.encoders.requires_grad_(False).eval()

    def on_epoch_end(self, ctx: Context) -> None:
        ctx.model.encoders.requires_grad_(True)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "encoders stay as they are at every setting"
