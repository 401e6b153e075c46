"""MMCosine: each modality's logits are cosines, so that no modality can win by the size of its features or weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.fusion import Concat, Features, Fusion, Sum
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


def cosine_logits(features: Features, weight: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return f_m = S cos(h_m, W_m), {modality: (B, C)}, from features {modality: (B, d_m)} and weight {m: (C, d_m)}.

    h_m is normalised per sample, W_m per class over the feature dimension; there is no bias. An all-zero feature has
    logits 0.
    """
    return {m: scale * F.linear(F.normalize(h, dim=1), F.normalize(weight[m], dim=1)) for m, h in features.items()}


class CosineFusion(Fusion):
    """f = sum_m S cos(h_m, W_m): a linear head without bias on normalised features and weights.

    Args:
        weight: W_m (C, d_m) of each modality at the start, in fusion order.
        classes: C.
        scale: S.
        bias: (C,) where evaluation answers with the plain linear head, f = sum_m W_m h_m + b; it is not trained.
    """

    def __init__(self, weight: Mapping[str, Tensor], classes: int, scale: float, bias: Tensor | None = None) -> None:
        super().__init__({m: w.shape[1] for m, w in weight.items()}, classes)
        self.bias: Tensor | None
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.weight = nn.ParameterDict({m: nn.Parameter(w.detach().clone()) for m, w in weight.items()})
        self.scale = scale

    def forward(self, features: Features) -> Tensor:
        return torch.stack(list(self.unimodal_logits(features).values())).sum(0)

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        if self.bias is not None and not self.training:
            return {m: F.linear(features[m], self.weight[m], self.bias / len(self.widths)) for m in self.widths}
        return cosine_logits({m: features[m] for m in self.widths}, dict(self.weight.items()), self.scale)

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.weight[m], slice(None))] for m in self.widths}


@dataclass
class MmCosine(Modulation):
    """Multi-modal cosine loss: the head measures angles only, in training and at test time.

    f_m[c] = S cos(h_m, W_m[c]);  f = sum_m f_m;  L = CE(f, y)

    W_m starts from the share of the replaced linear head (the same weights as joint training of this seed). Needs a
    fusion with one linear head per modality: concat or sum.
    The official code evaluates with the plain linear head, whose bias was never trained (`inference="linear"`): 3 to
    58 % of its answers are others than the cosines'.
    """

    name: ClassVar[str] = "mmcosine"
    tasks: ClassVar[tuple[Task, ...]] = ("classes", "multilabel")
    needs: ClassVar[str] = "logits, which may be cosines"
    paper: ClassVar[str] = (
        "Xu et al., MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained Learning, ICASSP 2023"
    )
    windowed: ClassVar[bool] = False

    scale: float = tunable(10.0, low=1.0, high=64.0, log=True, source="MMCosine's official command for CREMA-D")

    inference: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} > 0", "scale")

    def build(self, model: MultimodalModel) -> None:
        if not isinstance(model.fusion, Concat | Sum):
            name = type(model.fusion).name
            raise UserError(f"mmcosine replaces a linear head and needs fusion concat or sum, but got {name}.")
        weight = {m: p[:, columns] for m, ((p, columns),) in model.fusion.slices().items()}
        bias = None
        if self.inference == "linear":
            biases = [p for name, p in model.fusion.named_parameters() if name.endswith("bias")]
            bias = torch.stack(list[Tensor](biases)).sum(0)
        model.fusion = CosineFusion(weight, model.classes, self.scale, bias)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "its head is another function of the features at every scale"
