"""MLB: multi-loss training whose gradients are sped up for the modality behind and slowed for the one ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.models.losses import squared_errors
from balance_tune.models.multimodal import Policy
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.multi_loss import MLB_CODE, MultiLoss
from balance_tune.modulations.scores import Scores, by_name, score_sums, stacked
from balance_tune.tunable import tunable


def mlb_coefficients(scores: Scores, alpha: float, beta_max: float) -> dict[str, Tensor]:
    """Return k_m, the factor on each modality's gradients, from the scores {modality: 0-d tensor}.

    r_m = (1/(M-1) sum_{j != m} s_j) / s_m, above 1 for a modality that is behind (the inverse of OGM's);
    k_m = 1 + (beta_m - 1) tanh(alpha (r_m - 1)) with beta_m = beta_max where r_m > 1, else 2.

    Args:
        scores: the sum over the batch of each modality's probability of the true class.
        alpha: strength; at 0 every k is 1.
        beta_max: bound of k for a modality that is behind.
    """
    return by_name(coefficients(stacked(scores), alpha, beta_max), scores)


def coefficients(s: Tensor, alpha: float, beta_max: float) -> Tensor:
    """Return k (M,) from scores s (M,), see `mlb_coefficients`."""
    return modulated(behind(s), alpha, beta_max)


def behind(s: Tensor) -> Tensor:
    """Return r (M,) = (1/(M-1) sum_{j != m} s_j) / s_m from scores s (M,)."""
    s = s.clamp_min(1e-8)
    others = s.sum() - s
    return others / s if len(s) == 2 else others / (len(s) - 1) / s


def modulated(r: Tensor, alpha: float, beta_max: float) -> Tensor:
    """Return k (M,) from r (M,), see `mlb_coefficients`."""
    faster = torch.tanh(alpha * (r - 1))
    return 1 + (faster if beta_max == 2 else faster * torch.where(r > 1, beta_max - 1, 1.0))


@dataclass
class Mlb(MultiLoss):
    """Multi-loss gradient modulation: the gap in confidence decides how fast each modality learns.

    s_m = mean_i softmax(g_m,i)[y_i] of the modality's own head;  r_m = mean_{j != m} s_j / s_m
    k_m = 1 + (beta_m - 1) tanh(alpha (r_m - 1)),  beta_m = beta_max if r_m > 1 else 2
    Regression: e_m = mean_i (g_m,i - y_i)^2 and r_m = e_m / mean_{j != m} e_j, as in the official code for CMU-MOSEI.
    The total gradient of encoder m, of its own head and of its share of the fusion weight is multiplied by k_m.

    With a gated fusion the projection of each modality is scaled whole, as in the official code; with film the
    condition's weight is scaled by its modality's k, of which the official code scales nothing (`head=False`; the
    weights differ by 4e-2 after 20 steps).

    As all modalities become sure, r and k go to 1: the modulation phases itself out, there is no schedule. The shared
    fusion bias and shared fusion layers are not touched. `apply_to="lr"` scales the update instead of the gradient:
    under Adam a slowly changing factor on the gradient largely cancels. Scores are guarded by 1e-8.
    """

    name: ClassVar[str] = "mlb"

    alpha: float = tunable(0.5, low=0.1, high=6.0, log=True, source=f"{MLB_CODE}, CREMA-D with ResNet")
    beta_max: float = tunable(2.0, low=2.0, high=20.0, log=True, source="MLB's plain form 1 + tanh (tanh_mode off)")
    apply_to: Literal["grad", "lr"] = "grad"
    head: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 1", "beta_max")

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        k = modulated(self._behind(output.batch, ctx), self.alpha, self.beta_max)
        for m, k_m in by_name(k, self.answers).items():
            head_parameters = list(self.heads[m].parameters())
            if self.apply_to == "lr":
                ctx.scale_lr(m, k_m)
                ctx.scale_lr_of(head_parameters, k_m)
            else:
                policy: Policy = "encoder+head" if self.head else "encoder"
                scale([*ctx.model.gradients(m, policy), *(p.grad for p in head_parameters if p.grad is not None)], k_m)
        ctx.log("k", k)

    def _behind(self, batch: Batch, ctx: Context) -> Tensor:
        """Return r (M,), above 1 for a modality that is behind the others in this step."""
        if ctx.model.task == "regression":
            (e,) = ctx.replicas.sum(squared_errors(self.answers, batch.labels).sum(-1))
            return 1 / behind(e)
        (s,) = ctx.replicas.sum(score_sums(self.answers, batch.labels))
        return behind(s)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"alpha": 0.0}, reference="multi_loss")
