"""Multi-loss training: each modality also answers through a linear head of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.tunable import tunable

MLB_CODE = "kkontras/MLB, final run.sh"


@dataclass
class MultiLoss(Modulation):
    """The multi-loss baseline of MLB: a loss on the fused answer and one on each modality's own.

    L = CE(f, y) + weight sum_m CE(g_m, y),  g_m = A_m h_m + b_m

    The heads g_m exist in training only; the model that is evaluated is the plain one.
    """

    name: ClassVar[str] = "multi_loss"
    paper: ClassVar[str] = (
        "Kontras et al., Improving Multimodal Learning with Multi-Loss Gradient Modulation, BMVC 2024"
    )
    cost: ClassVar[str] = "one linear head per modality"

    weight: float = tunable(1.0, low=0.1, high=2.0, log=True, source=MLB_CODE)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "weight")
        self.heads = nn.ModuleDict()
        self.answers: dict[str, Tensor] = {}

    def build(self, model: MultimodalModel) -> None:
        self.heads = nn.ModuleDict({m: nn.Linear(d, model.classes) for m, d in model.widths.items()})

    def modules(self) -> nn.ModuleDict:
        return self.heads

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        with ctx.autocast():
            self.answers = {m: self.heads[m](h) for m, h in output.full_features.items()}
        unimodal = {
            f"unimodal/{m}": self.weight * ctx.loss(g.float() if g.dtype.itemsize < 4 else g, output.batch)
            for m, g in self.answers.items()
        }
        return {**losses, **unimodal}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"weight": 0.0})
