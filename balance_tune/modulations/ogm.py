"""OGM and OGM-GE: the modality that is ahead gets smaller gradients (and noise keeps its generalisation)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from balance_tune.models.multimodal import Policy
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import add_noise, deviations, scale
from balance_tune.modulations.scores import Scores, Values, as_tensor, by_name, elementwise, ratios, stacked
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

Form = Literal["tanh_alpha_rho", "alpha_tanh_rho_minus_1"]
README = "GeWu-Lab/OGM-GE_CVPR2022 README, CREMA-D"


def ogm_coefficients(scores: Scores, alpha: float, form: Form = "tanh_alpha_rho") -> dict[str, Tensor]:
    """Return k_m, the factor on each modality's encoder gradients, from the scores {modality: 0-d tensor}.

    rho_m = 1/(M-1) sum_{j != m} s_m / s_j;  k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1 (official code; there
    is no "-1" inside tanh, so k jumps to 1 - tanh(alpha) just above a tie). `form="alpha_tanh_rho_minus_1"` is the
    journal text's k_m = 1 - alpha tanh(rho_m - 1), which is negative for alpha above 1 and a large lead (the method
    stops at 0). Of two tied modalities the first is slowed, as in the official code.

    Args:
        scores: the sum over the batch of each modality's probability of the true class.
        alpha: strength; 0 changes nothing.
        form: of k, see above.

    Returns:
        {modality: 0-d tensor}.
    """
    return by_name(as_tensor(coefficients(ratios(stacked(scores)), alpha, form)), scores)


def coefficients(rho: Values, alpha: float, form: Form = "tanh_alpha_rho") -> Values:
    """Return k of each modality from the scores' ratios rho, see `ogm_coefficients`, where the ratios are."""

    def slowed(r: Any, tie: Any, xp: Any) -> Any:
        lead = xp.tanh(alpha * r) if form == "tanh_alpha_rho" else alpha * xp.tanh(r - 1)
        return 1 - ((r > 1) | (tie & (r == 1))) * lead

    first_of_two = (len(rho) == 2, *[False] * (len(rho) - 1))
    return elementwise(slowed, rho, first_of_two)


@dataclass
class Ogm(Modulation):
    """On-the-fly gradient modulation: slows the encoder of the modality that is ahead.

    s_m = sum_i softmax(f_m,i)[y_i];  rho_m = 1/(M-1) sum_{j != m} s_m / s_j
    k_m = 1 - tanh(alpha rho_m) if rho_m > 1 else 1;  g_m <- k_m g_m

    Scores come from the step's own batch. `policy` says which encoder parameters are touched: `auto` is the official
    code's (4-D convolution weights) where an encoder has such, else all weights of two or more dimensions.
    `apply_to="lr"` scales the update instead of the gradient: under Adam a slowly changing factor on the gradient
    largely cancels.
    Deviations: scores are guarded by 1e-8; the window is a fraction of the run (official: epochs 0 to 50 of 100).
    """

    name: ClassVar[str] = "ogm"
    tasks: ClassVar[tuple[Task, ...]] = ("classes", "multilabel")
    paper: ClassVar[str] = "Peng et al., Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022"
    cost: ClassVar[str] = "the unimodal answers of the fusion head, without gradient"

    alpha: float = tunable(0.8, low=0.05, high=3.0, log=True, source=README)
    end: float = tunable(0.5, choices=(0.5, 0.6, 0.8, 1.0), source=f"{README}: epochs 0 to 50 of 100")
    form: Form = "tanh_alpha_rho"
    policy: Policy = "auto"
    apply_to: Literal["grad", "lr"] = "grad"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.k: Values = ()

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        k = coefficients(ctx.score_ratios, self.alpha, self.form)  # now that features and head are in the caches
        if self.form != "tanh_alpha_rho":
            k = elementwise(lambda x, _, xp: xp.clamp(x, 0.0, math.inf), k)
        self.k = k
        return losses

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        self.slow([ctx.model.gradients(m, self.policy) for m in ctx.model.modalities], ctx)

    def slow(self, gradients: Sequence[Sequence[Tensor]], ctx: Context) -> None:
        """Apply the step's factors; `gradients` are those of each modality."""
        for m, group, k_m in zip(ctx.model.modalities, gradients, self.k, strict=True):
            if self.apply_to == "lr":
                ctx.scale_lr(m, k_m, self.policy)
            else:
                scale(group, k_m)
        ctx.log("k", self.k)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"alpha": 0.0})


@dataclass
class OgmGe(Ogm):
    """OGM with generalisation enhancement: Gaussian noise of the gradient's own size, added to every modality.

    g_m <- k_m g_m + xi,  xi ~ N(0, sigma^2) per element,  sigma = std(g_m) + 1e-8 per tensor, before scaling

    As in the official code the noise is isotropic per tensor and is added to the modality that is not slowed too.
    """

    name: ClassVar[str] = "ogm_ge"
    cost: ClassVar[str] = f"{Ogm.cost}; noise of the size of the encoders' gradients"

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        gradients = [ctx.model.gradients(m, self.policy) for m in ctx.model.modalities]
        flat = [g for group in gradients for g in group]
        sigma = deviations(flat, ctx)
        self.slow(gradients, ctx)
        add_noise(flat, sigma, ctx)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "the noise is there at every alpha, as in the official code; without it this is `ogm`"
