"""UMT: every encoder imitates a teacher that learnt its modality alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.tunable import tunable

BENCHMARK = "GeWu-Lab/BalanceBenchmark"


@dataclass
class Umt(Modulation):
    """Uni-modal teacher: distils the features of frozen teachers, each trained on one modality alone.

    L = CE(f, y) + scaling sum_m MSE(h_m, t_m(x_m)),  MSE = mean over samples and feature dimensions

    Teachers have the encoders' architecture and are trained with a linear head before the first modulated epoch, with
    the trial's own recipe, for `teacher_epochs` of the run's length; this time is charged to the trial. They start from
    the encoders' weights at that moment, at the beginning of a run the initial ones.
    Deviations: the official teachers are trained beforehand, for as long as it takes.
    """

    name: ClassVar[str] = "umt"
    paper: ClassVar[str] = "Du et al., On Uni-Modal Feature Learning in Supervised Multi-Modal Learning, ICML 2023"
    cost: ClassVar[str] = "a run of each modality alone beforehand, and one forward pass of each teacher per step"
    reads: ClassVar[str] = "a model of each modality trained alone beforehand (`ctx.teacher`)"

    scaling: float = tunable(10.0, low=0.1, high=100.0, log=True, source=BENCHMARK)
    teacher_epochs: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "scaling")
        self.demand("{} > 0", "teacher_epochs")
        self.teachers = nn.ModuleDict()
        self._taught = False

    def build(self, model: MultimodalModel) -> None:
        self.teachers = nn.ModuleDict({m: copy.deepcopy(e) for m, e in model.encoders.items()}).requires_grad_(False)

    def modules(self) -> nn.ModuleDict:
        return self.teachers

    def on_epoch_start(self, ctx: Context) -> None:
        if not self._taught:
            epochs = max(1, round(self.teacher_epochs * ctx.epochs))
            for m, teacher in self.teachers.items():
                teacher.load_state_dict(ctx.teacher(m, epochs).encoder.state_dict())
            self._taught = True
        self.teachers.eval()

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        imitation = {}
        for m, h in output.full_features.items():
            with torch.no_grad(), ctx.autocast():
                t = self.teachers[m](batch.inputs[m])
            distance = (h.float() - t.float() if h.dtype.itemsize < 4 else h - t).square().mean(1)
            imitation[m] = ctx.mean(distance, batch)
        (shares,) = ctx.replicas.sum(torch.stack(list(imitation.values())))
        ctx.log("distance", shares / ctx.replicas.world)
        return {**losses, **{f"teacher/{m}": self.scaling * d for m, d in imitation.items()}}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"scaling": 0.0})

    def state_dict(self) -> dict[str, Any]:
        return {"taught": self._taught}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._taught = state["taught"]
