"""G2D: the student imitates unimodal teachers, and only the weakest one's encoder learns at first."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from balance_tune.models.multimodal import MultimodalModel, Policy
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.scores import by_name, score_sums, stacked
from balance_tune.modulations.teacher import Teacher
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

CODE = "rAIson-Lab/G2D"


def priority(teacher_scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each encoder's factor (0-d): 1 for the modality whose teacher scores lowest, 0 for the others.

    Of several that score lowest each has 1, so a tie of two changes nothing (the official code stops there).
    """
    s = torch.stack([torch.as_tensor(x) for x in teacher_scores.values()])
    return by_name((s == s.amin()).to(s.dtype if s.is_floating_point() else torch.float32), teacher_scores)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(t/T) || softmax(f/T)) of each sample (B,) from logits (B, C)."""
    target = (teacher / temperature).log_softmax(1)
    return temperature**2 * (target.exp() * (target - (student / temperature).log_softmax(1))).sum(1)


@dataclass
class G2d(Modulation):
    """Gradient-guided distillation: fused logits and features imitate unimodal teachers; the weakest goes first.

    L = CE(f, y) + sum_m [ w_l T^2 KL(softmax(t_m / T) || softmax(f / T)) + w_f MSE(h_m, h_m of teacher m) ]
    until `priority_end`: encoders' gradients times 0 but for the modality with the lowest teacher score of the batch,
    s_m = sum_i softmax(t_m,i)[y_i]

    t_m: logits of a model of modality m alone. Teachers are trained before the first modulated epoch with the trial's
    own recipe for `teacher_epochs` of the run's length, on the trial's clock, and see the student's batch. A gradient
    of zero is not a stop: momentum and weight decay go on, and biases, normalisations and the head learn (`policy`).
    Known of the official code: its teachers are chosen on test rows; a tie raises an error; it has no sequence of
    leaders, of which the paper speaks. More than two modalities are ours: all but the weakest wait.
    Deviation: the priority ends after a fraction of the run (official: epochs 0 to 150 of 300).
    """

    name: ClassVar[str] = "g2d"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = (
        "Rakib and Bagavathi, G2D: Boosting Multimodal Learning with Gradient-Guided Distillation, ICCV 2025"
    )
    cost: ClassVar[str] = "a run of each modality alone beforehand, and one forward pass of each teacher per step"
    reads: ClassVar[str] = "a model of each modality trained alone beforehand (`ctx.teacher`)"

    logit_weight: float = tunable(1.0, low=0.1, high=10.0, log=True, source=CODE)
    feature_weight: float = tunable(1.0, low=0.1, high=100.0, log=True, source=CODE)
    temperature: float = tunable(1.0, choices=(1.0, 2.0, 4.0), source=CODE)
    priority_end: float = tunable(0.5, choices=(0.0, 0.25, 0.5, 0.75), source=f"{CODE}: epochs 0 to 150 of 300")
    teacher_epochs: float = tunable(1.0, choices=(0.5, 1.0), source=f"{CODE}: as long as the student")
    policy: Policy = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "logit_weight", "feature_weight", "priority_end")
        self.demand("{} > 0", "temperature", "teacher_epochs")
        self.teachers = nn.ModuleDict()
        self._taught = False
        self._priority: dict[str, Tensor] = {}

    def build(self, model: MultimodalModel) -> None:
        teachers = {m: Teacher.of(m, copy.deepcopy(e), model.classes) for m, e in model.encoders.items()}  # type: ignore[arg-type]
        self.teachers = nn.ModuleDict(teachers).requires_grad_(False)

    def modules(self) -> nn.ModuleDict:
        return self.teachers

    def on_epoch_start(self, ctx: Context) -> None:
        if not self._taught:
            epochs = max(1, round(self.teacher_epochs * ctx.epochs))
            for m, teacher in self.teachers.items():
                teacher.load_state_dict(ctx.teacher(m, epochs).state_dict())
            self._taught = True
        self.teachers.eval()

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        imitation, logits = {}, {}
        for m, h in output.full_features.items():
            with torch.no_grad(), ctx.autocast():
                target, logits[m] = self.teachers[m](batch.inputs[m])
            distance = (precise(h) - precise(target)).square().mean(1)
            apart = distillation(output.logits, precise(logits[m]), self.temperature)
            imitation[f"features/{m}"] = self.feature_weight * ctx.mean(distance, output.batch)
            imitation[f"logits/{m}"] = self.logit_weight * ctx.mean(apart, output.batch)
        self._priority = {}
        if self.priority_end and ctx.epoch <= self.priority_end * ctx.epochs + 1e-9:
            (s,) = ctx.replicas.sum(score_sums(logits, batch.labels))
            self._priority = priority(by_name(s, logits))
            ctx.log("priority", stacked(self._priority))
        return {**losses, **imitation}

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        for m, k in self._priority.items():
            scale(ctx.model.gradients(m, self.policy), k)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"logit_weight": 0.0, "feature_weight": 0.0, "priority_end": 0.0})

    def state_dict(self) -> dict[str, Any]:
        return {"taught": self._taught}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._taught = state["taught"]
