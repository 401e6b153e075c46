"""AGM: a modality that is further ahead than it usually is gets a smaller gradient, through its own logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from balance_tune.models.losses import sample_losses, squared_errors
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.scores import by_name, true_class_probability
from balance_tune.modulations.shapley import mono_modal_logits, silenced_answers
from balance_tune.tunable import tunable

AUTHOR = "lihongcs/AGM, the author's answer on CREMA-D in its issues"


def agm_coefficients(
    losses: Mapping[str, Tensor],
    running: Mapping[str, Tensor],
    alpha: float,
    cap: float,
    include_current: bool,
    steps: int | None = None,
) -> dict[str, Tensor]:
    """Return k_m, the factor on the gradient that reaches each modality's logits, from its losses (0-d tensors).

    r_m = exp(M/(M-1) (mean_j L_j - L_m)), large for a modality that is ahead; tau_m = the same of the running means;
    k_m = exp(alpha min(tau_m - r_m, cap)). For two modalities r_a = exp(L_v - L_a).

    Args:
        losses: L_m of this batch.
        running: the mean of L_m over the run so far; 0 before the first step.
        alpha: strength.
        cap: largest tau_m - r_m.
        include_current: tau is of the mean with this batch in it (the official code for three modalities), else of the
            mean before it (for two).
        steps: how many steps `running` is the mean of; `include_current` then folds this batch in. None: a running
            mean that is to include this batch has it already.
    """
    current = torch.stack(list(losses.values()))
    mean = torch.stack([torch.as_tensor(running[m]).to(current) for m in losses])
    if include_current and steps is not None:
        mean = _folded(mean, current, steps)
    k = torch.exp(alpha * (_lead(mean) - _lead(current)).clamp_max(cap))
    return by_name(k, losses)


def _lead(losses: Tensor) -> Tensor:
    m = len(losses)
    return torch.exp(m / max(m - 1, 1) * (losses.mean() - losses))


def _folded(mean: Tensor, current: Tensor, steps: int) -> Tensor:
    return mean * (steps / (steps + 1)) + current / (steps + 1)


def _own_losses(f: Mapping[str, Tensor], labels: Tensor, task: str) -> Tensor:
    """Return (M, B), the loss of each modality's share of the answer in every sample."""
    if task == "regression":
        return squared_errors(f, labels)
    if task == "multilabel":
        return torch.stack([sample_losses(task, answer.detach(), labels) for answer in f.values()])
    return -true_class_probability(torch.stack(list(f.values())), labels).clamp_min(1e-8).log()


@dataclass
class Agm(Modulation):
    """Adaptive gradient modulation: each modality's share of the logits is isolated, and its gradient scaled.

    f_m = Shapley share of modality m over answers with inputs zeroed;  f = sum_m f_m;  L = CE(f, y)
    L_m = mean_i -log max(softmax(f_m,i)[y_i], 1e-8)
    r_m = exp(M/(M-1) (mean_j L_j - L_m)),  tau_m = the same of the means of L_m over all steps
    k_m = exp(alpha min(tau_m - r_m, cap));  dL/df_m <- k_m dL/df_m, on its way back through every pass

    k may exceed 1. The cap is 10 for two modalities and 7 for more, as in the official codes. tau leaves the current
    batch out, as in the authors' own code; MLB's includes it for three modalities (`include_current=True`; the weights
    differ by 1e-4 after the first step). A silenced input is encoded in evaluation mode with gradient, once per encoder
    as a single sample (all its rows are equal there), and meets the step's own features of the others (as in
    kkontras/MLB; the first official code encodes those again in evaluation mode, the same for encoders without
    BatchNorm or dropout). Where an entry of the head's weight gradient exceeds 1 in size (5 for more than two
    modalities) all gradients are clipped to a global norm of as much (`clip`).
    With BatchNorm the weights differ from the authors' code by 9e-3 after 20 steps, from MLB's by nothing.
    The factor enters on the logits and reaches encoder and head mixed with the other modalities' shares, so there is no
    learning rate that could carry it instead.
    Several labels: L_m is the mean binary cross-entropy. Regression: L_m = mean_i (f_m,i - y_i)^2.
    Deviations: more than three modalities follow the three-modality code; for regression that code takes 1 / L_m for
    L_m, which turns the rule round: it speeds up the modality that is ahead.
    """

    name: ClassVar[str] = "agm"
    paper: ClassVar[str] = (
        "Li et al., Boosting Multi-modal Model Performance with Adaptive Gradient Modulation, ICCV 2023"
    )
    cost: ClassVar[str] = "2^M - 2 further passes of the fusion, and one more sample through each encoder"

    alpha: float = tunable(1.5, low=0.1, high=6.0, log=True, source=AUTHOR)
    clip: bool = True
    include_current: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "alpha")
        self._running: dict[str, Tensor] = {}
        self._steps = 0

    def forward(self, batch: Batch, ctx: Context) -> Output:
        output = ctx.forward(batch)
        modalities = ctx.model.modalities
        answers = {frozenset(modalities): output.logits, **silenced_answers(output.features, batch, ctx)}
        f = mono_modal_logits(answers, modalities)
        k = self._coefficients(f, batch, ctx)
        for m, logits in f.items():
            logits.register_hook(lambda gradient, factor=k[m]: gradient * factor.to(gradient.dtype))
        ctx.log("k", k)
        return dataclasses.replace(output, logits=torch.stack(list(f.values())).sum(0))

    @torch.no_grad()
    def _coefficients(self, f: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
        (sums,) = ctx.replicas.sum(_own_losses(f, batch.labels, ctx.model.task).sum(-1))
        losses = by_name(sums / batch.total, f)
        running = self._running or {m: torch.zeros_like(loss) for m, loss in losses.items()}
        two = len(f) == 2
        k = agm_coefficients(losses, running, self.alpha, 10.0 if two else 7.0, self.include_current, steps=self._steps)
        self._running = {m: _folded(running[m], loss, self._steps) for m, loss in losses.items()}
        self._steps += 1
        return k

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        if not self.clip:
            return
        gradients = [p.grad for p in ctx.parameters if p.grad is not None]
        head = [p.grad for p in ctx.model.fusion.parameters() if p.grad is not None and p.dim() >= 2]
        peak = torch.stack([g.abs().amax() for g in head]).amax()
        limit = 1.0 if len(output.features) == 2 else 5.0
        norm = torch.nn.utils.get_total_norm(gradients)
        scale(gradients, torch.where(peak > limit, (limit / (norm + 1e-6)).clamp_max(1), 1.0))

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"alpha": 0.0, "clip": False}, tolerance=1e-6)

    def state_dict(self) -> dict[str, Any]:
        return {"running": self._running, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._running, self._steps = dict(state["running"]), state["steps"]
