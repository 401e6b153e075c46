"""Catch-up: an encoder learns the faster, the further its modality's confidence has been behind the best one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


@dataclass
class CatchUp(Modulation):
    """Learning rates by lasting confidence: the modalities behind speed up, the best one keeps its pace.

    s_m = sum_i softmax(f_m,i)[y_i];  c_m <- memory c_m + (1 - memory) s_m
    lr_m <- lr min((max_j c_j / c_m)^gamma, cap)
    """

    name: ClassVar[str] = "catch_up"
    paper: ClassVar[str] = "none: the sample plug-in of balance_tune"
    tasks: ClassVar[tuple[Task, ...]] = ("classes", "multilabel")  # a confidence is a probability
    cost: ClassVar[str] = "the unimodal answers of the fusion head, without gradient"

    gamma: float = tunable(0.5, low=0.1, high=2.0, log=True, source="a guess")
    memory: float = tunable(0.9, low=0.0, high=0.99, source="a guess")
    cap: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.confidence: Tensor | None = None  # (M,), of every step so far

    def observe(self, output: Output, batch: Batch, ctx: Context) -> None:
        s = torch.stack(list(ctx.scores.values())).clamp_min(1e-8)
        self.confidence = s if self.confidence is None else torch.lerp(s, self.confidence, self.memory)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        if self.confidence is not None:
            factors = ((self.confidence.amax() / self.confidence) ** self.gamma).clamp_max(self.cap)
            for m, k in zip(ctx.model.modalities, factors.unbind(), strict=True):
                ctx.scale_lr(m, k)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"gamma": 0.0})

    def state_dict(self) -> dict[str, Any]:
        return {"confidence": self.confidence}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.confidence = state["confidence"]
