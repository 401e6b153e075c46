"""OPM and OGM together: drop features in the forward pass, scale gradients in the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from balance_tune.models.multimodal import Policy
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.ogm import Form, Ogm
from balance_tune.modulations.opm import SCRIPT, Opm
from balance_tune.tunable import tunable


@dataclass
class OpmOgm(Opm):
    """OPM and OGM on the same scores, which are computed once per step, before dropping.

    Features as in `opm`; then g_m <- k_m g_m as in `ogm`, on the gradients of the loss after dropping. Both wait for
    the warm-up (`start`); OGM ends at `ogm_end` (official: epochs 0 to 60 of 100).
    """

    name: ClassVar[str] = "opm_ogm"

    alpha: float = tunable(0.8, low=0.05, high=3.0, log=True, source=SCRIPT)
    ogm_end: float = tunable(0.6, choices=(0.5, 0.6, 0.8, 1.0), source=f"{SCRIPT}: OGM in epochs 0 to 60 of 100")
    form: Form = "tanh_alpha_rho"
    policy: Policy = "auto"
    apply_to: Literal["grad", "lr"] = "grad"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ogm = Ogm(alpha=self.alpha, end=self.ogm_end, form=self.form, policy=self.policy, apply_to=self.apply_to)

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        return self.ogm.on_losses(losses, output, batch, ctx) if self.ogm.acts(ctx.epoch, ctx.epochs) else losses

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        if self.ogm.acts(ctx.epoch, ctx.epochs):
            self.ogm.on_gradients(output, batch, ctx)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"p_exe": 0.0, "alpha": 0.0})
