"""MBSD: modalities that disagree about a sample are drawn together, the less sure one towards the surer one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.scores import true_class_probability
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

BENCHMARK = "GeWu-Lab/BalanceBenchmark"


def bias_weight(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """Return v (B,) = |p_a[y] - p_b[y]| where one of two logits (B, C) names the class y, else 0; without gradient."""
    one, other = one.detach(), other.detach()
    gap = (true_class_probability(one, labels) - true_class_probability(other, labels)).abs()
    return torch.where((one.argmax(1) == labels) | (other.argmax(1) == labels), gap, 0.0)


def distillation(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """Return KL(p_teacher || p_student) per sample (B,), the teacher being surer of y and held fixed."""
    a, b = one.log_softmax(1), other.log_softmax(1)
    first_teaches = (true_class_probability(one, labels) >= true_class_probability(other, labels))[:, None]
    teacher = torch.where(first_teaches, a, b).detach()
    student = torch.where(first_teaches, b, a)
    return (teacher.exp() * (teacher - student)).sum(1)


@dataclass
class Mbsd(Modulation):
    """Self-distillation between modalities, weighted by how much they differ in confidence.

    L = CE(f, y) + weight ( sum_m CE(f_m, y) + D ),  D the mean over pairs (a, b) and samples i of
    v_i ( 1/C |f_a,i - f_b,i|^2 + KL(p_s,i || p_w,i) ),  v_i = |p_a,i[y] - p_b,i[y]| if f_a or f_b is right, else 0;
    s is the surer of the two, w the other

    f_m are the fusion's unimodal logits, p = softmax(f). No original code or full text is public; this is
    BalanceBenchmark's rule with its distillation term made a divergence over classes.
    Deviations: KL is between class distributions with the surer one fixed (BalanceBenchmark: a product of two scalars,
    one of them not a logarithm); v is a constant to the gradient (there it is not; the two change the first step by
    2e-3 and all weights by 0.4 in 24 steps at a learning rate of 0.05); the similarity is of logits for any number of
    modalities (BalanceBenchmark: of probabilities for three); `weight` (1 there) is ours.
    """

    name: ClassVar[str] = "mbsd"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = "MBSD, as in Xu et al., BalanceBenchmark: A Survey for Multimodal Imbalance Learning, 2025"
    cost: ClassVar[str] = "unimodal answers of the fusion head; nothing in the encoders"

    weight: float = tunable(1.0, low=0.1, high=3.0, log=True, source=f"{BENCHMARK}: all terms weigh 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "weight")

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        batch = output.batch
        answers = unimodal_answers(output.features, ctx)
        pairs = list(combinations(answers.values(), 2))
        bias = torch.stack([bias_weight(a, b, batch.labels) for a, b in pairs])
        likeness = torch.stack([(a - b).square().mean(1) for a, b in pairs])
        taught = torch.stack([distillation(a, b, batch.labels) for a, b in pairs])
        (total,) = ctx.replicas.sum(bias.mean(0).sum())
        ctx.log("bias", total / batch.total)
        return {
            **losses,
            **{f"unimodal/{m}": self.weight * ctx.loss(f, batch) for m, f in answers.items()},
            "similarity": self.weight * ctx.mean((bias * likeness).mean(0), batch),
            "distillation": self.weight * ctx.mean((bias * taught).mean(0), batch),
        }

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"weight": 0.0})
