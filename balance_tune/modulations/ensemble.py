"""An ensemble of unimodal models: what the modalities reach when nothing is trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.fusion_late import Late
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import unimodal_answers
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.tunable import tunable


class Mixture(Late):
    """f = sum_m w_m f_m, or log sum_m w_m softmax(f_m); f_m = W_m h_m + b_m.

    Args:
        widths: d_m of each modality.
        classes: C.
        weights: w_m, adding up to 1.
        probabilities: whether probabilities are averaged, not logits.
    """

    def __init__(
        self, widths: Mapping[str, int], classes: int, weights: Sequence[float], probabilities: bool = False
    ) -> None:
        super().__init__(widths, classes)
        self.mix: Tensor
        self.register_buffer("mix", torch.tensor(list(weights)))
        self.probabilities = probabilities

    def forward(self, features: Features) -> Tensor:
        f = torch.stack(list(self.unimodal_logits(features).values()))
        w = self.mix.view(-1, 1, 1).to(f.dtype)
        if not self.probabilities:
            return (w * f).sum(0)
        return (f.log_softmax(-1) + w.log()).logsumexp(0)

    def parts(self, features: Features) -> dict[str, Tensor] | None:
        return None


def mixing_weights(modalities: int, ratio: float) -> list[float]:
    """Return w_m, adding up to 1, falling (or rising) geometrically from the first modality to the last by `ratio`."""
    steps = max(modalities - 1, 1)
    weights = [ratio ** (1 - i / steps) for i in range(modalities)]
    return [w / sum(weights) for w in weights]


@dataclass
class Ensemble(Modulation):
    """Unimodal models that are trained independently; their answers are averaged.

    L = sum_m CE(f_m, y),  f_m = W_m h_m + b_m;  answer: f = sum_m w_m f_m, w_1 / w_M = ratio

    No model has a parameter in common with another, so one run is M independent trainings on the same batches, each
    with the whole run's epochs, recipe and learning rate; the trial is charged for all of them. They have the epoch
    choice in common, and `training.clip_norm` where it is set. `average="probabilities"` mixes softmax(f_m).
    In the one published table whose epochs are chosen on validation rows (MCR's) this beats most balancing methods.
    """

    name: ClassVar[str] = "ensemble"
    paper: ClassVar[str] = "the common baseline without joint training"
    cost: ClassVar[str] = "nothing: each encoder is trained once"
    windowed: ClassVar[bool] = False

    ratio: float = tunable(1.0, low=0.25, high=4.0, log=True, source="the plain average")
    average: Literal["logits", "probabilities"] = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} > 0", "ratio")

    def build(self, model: MultimodalModel) -> None:
        if self.average == "probabilities" and model.task != "classes":
            raise UserError(
                f"ensemble averages probabilities of classes, but got a task of {model.task}; set `average`."
            )
        weights = mixing_weights(len(model.modalities), self.ratio)
        model.fusion = Mixture(model.widths, model.classes, weights, self.average == "probabilities")

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        answers = unimodal_answers(output.features, ctx)
        unimodal = {f"unimodal/{m}": ctx.loss(f, output.batch) for m, f in answers.items()}
        return {**{name: loss for name, loss in losses.items() if name != "fused"}, **unimodal}

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "nothing is trained together at any setting"
