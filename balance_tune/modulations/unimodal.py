"""One modality alone: what a single encoder reaches when nothing competes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import nn

from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Concat
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.registry import unknown


@dataclass
class Unimodal(Modulation):
    """The same encoder with a linear head of its own, trained on one modality; an arm per modality.

    L = CE(f, y),  f = W h_m + b

    The model is cut down to that modality, in evaluation and in checkpoints too. Its encoder starts from the weights it
    has in the joint model of the same seed. (The "audio-only" numbers of the OGM paper are something else: a fresh
    head on the frozen encoder of the *joint* model, see `training.probe`.)
    """

    name: ClassVar[str] = "unimodal"
    paper: ClassVar[str] = "the common baseline with one modality"
    cost: ClassVar[str] = "less than joint training: one encoder"
    windowed: ClassVar[bool] = False

    modality: str = ""

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> tuple[str, ...]:
        return tuple(modalities)

    def build(self, model: MultimodalModel) -> None:
        if self.modality not in model.modalities:
            raise unknown("the modality of unimodal", self.modality, list(model.modalities))
        encoder = cast(Encoder, model.encoders[self.modality])
        model.encoders = nn.ModuleDict({self.modality: encoder})
        model.fusion = Concat({self.modality: encoder.features}, model.classes)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "it is another model: one encoder with its own head"
