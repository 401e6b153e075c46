"""CGGM: a classifier on each modality says how fast it improves, which sets the size and the direction of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.fusion import Concat, Sum
from balance_tune.models.fusion_late import Late
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.scores import by_name
from balance_tune.settings import TrainingSettings
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

MOSI = "zrguo/CGGM, CMU-MOSI"


def cggm_coefficients(
    accuracies: Mapping[str, Tensor], previous: Mapping[str, Tensor], rho: float, bound: float = 4.0
) -> dict[str, Tensor]:
    """Return rho c_m, the factor on each encoder's gradients, from accuracies {modality: 0-d tensor} now and before.

    d_m = acc_m(t) - acc_m(t-1);  c_m = (sum_j d_j + eps - d_m) / (sum_j d_j + eps),  eps = 1e-8, kept within
    [0, `bound`]: where the d cancel the official c explodes, and a negative c reverses the gradient; bound 0 leaves it
    as it is. If no accuracy
    moves, c = 1 for all, as in the official code.

    Args:
        accuracies: of the classifiers in this step.
        previous: of the step before.
        rho: factor common to all modalities.
        bound: the largest c; 0 for none.
    """
    d = torch.stack([acc - torch.as_tensor(previous[m]).to(acc) for m, acc in accuracies.items()])
    total = d.sum() + 1e-8
    c = ((total - d) / total).nan_to_num(1.0)
    c = c.clamp(0, bound) if bound else c
    return by_name(rho * c, accuracies)


@dataclass
class Cggm(Modulation):
    """Classifier-guided gradient modulation: the modality that improves less gets more of the gradient.

    g_m = A_m h_m + b_m, trained on CE(g_m, y);  acc_m(t) = its accuracy on the step's batch (0 before the first step)
    d_m = acc_m(t) - acc_m(t-1);  c_m = (sum_j d_j - d_m) / sum_j d_j, within [0, bound]
    theta_m <- gradient times rho c_m, for every parameter of encoder m; then the model's gradients are clipped
    L = CE(f, y) + lam L_gm,  L_gm = 1/M (sum_m |c_m| - sum_m c_m cos_m)

    `direction="weight"` is the official code: cos_m lies between the classifier's weight A_m and the fused head's W_m
    (the parameters), and L_gm is the previous step's. `direction="gradient"` is the paper: cos_m lies between the
    gradients of the two losses by these weights, in the same step (a second backward pass). L_gm trains the model only,
    never the classifiers.
    Features reach the classifiers detached, as in every official model; with `detach=False` their losses train the
    encoders too.
    `apply_to="lr"` scales the encoders' update instead of their gradient: under Adam a slowly changing factor on the
    gradient largely cancels.
    Deviations: linear classifiers (official: two transformer layers), in the run's own optimiser at half the learning
    rate (official: Adam at 5e-4 beside 1e-3); c is bounded, see `cggm_coefficients`. The bound acts often: a c lies
    outside [0, 4] in 30 to 54 % of the steps (below 0 mostly), where ours stops that encoder for the step and the
    official code reverses its gradient (`bound=0`: no bound). On AV-Digits: 92.3 +- 3.8 with it, 90.8 +- 2.9 without.
    Needs a fusion with a linear head per modality (concat, sum, late), or lam = 0. The classifiers exist in training
    only.
    """

    name: ClassVar[str] = "cggm"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    needs: ClassVar[str] = "the accuracy of its classifiers"
    paper: ClassVar[str] = (
        "Guo et al., Classifier-guided Gradient Modulation for Enhanced Multimodal Learning, NeurIPS 2024"
    )
    cost: ClassVar[str] = "a linear classifier on each feature; a second backward pass with direction = gradient"

    rho: float = tunable(1.3, low=0.5, high=3.0, log=True, source=MOSI)
    lam: float = tunable(0.2, low=0.01, high=1.0, log=True, source=MOSI)
    direction: Literal["weight", "gradient"] = "weight"
    apply_to: Literal["grad", "lr"] = "grad"
    bound: float = 4.0
    clip: float = 0.8
    classifier_lr: float = 0.5
    detach: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "rho", "lam", "bound", "clip", "classifier_lr")
        self.classifiers = nn.ModuleDict()
        self._previous: dict[str, Tensor] = {}
        self._pull: dict[str, Tensor] = {}  # d L_gm / d W_m of the previous step
        self._coefficients: dict[str, Tensor] = {}  # of this step

    def build(self, model: MultimodalModel) -> None:
        self.classifiers = nn.ModuleDict({m: nn.Linear(d, model.classes) for m, d in model.widths.items()})
        if self.lam > 0 and not isinstance(model.fusion, Concat | Sum | Late):
            raise UserError(
                f"cggm compares each classifier with its modality's share of a linear head: it needs fusion concat, "
                f"sum or late (or lam = 0), but got {type(model.fusion).name or 'one of your own'}."
            )

    def modules(self) -> nn.ModuleDict:
        return self.classifiers

    def parameter_groups(self, training: TrainingSettings) -> list[dict[str, Any]]:
        return [{"params": list(self.classifiers.parameters()), "lr_factor": self.classifier_lr}]

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        features = {m: h.detach() if self.detach else h for m, h in output.full_features.items()}
        with ctx.autocast():
            answers = {m: self.classifiers[m](h) for m, h in features.items()}
        classifier_losses = {m: ctx.loss(g.float() if g.dtype.itemsize < 4 else g, batch) for m, g in answers.items()}
        self._coefficients = self._improvement(answers, batch, ctx)
        total = {**losses, **{f"classifier/{m}": loss for m, loss in classifier_losses.items()}}
        if self.lam > 0 and self.direction == "gradient":
            total["direction"] = self.lam * self._pull_of_gradients(losses["fused"], classifier_losses, ctx)
        return total

    @torch.no_grad()
    def _improvement(self, answers: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Return c_m of this step and remember its accuracies."""
        correct = torch.stack([(g.argmax(1) == batch.labels).sum() for g in answers.values()])
        (correct,) = ctx.replicas.sum(correct)
        accuracies = by_name(correct.double() / batch.total, answers)
        c = cggm_coefficients(
            accuracies, self._previous or dict.fromkeys(answers, correct.new_zeros(())), 1.0, self.bound
        )
        self._previous = accuracies
        return c

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        if self.lam > 0 and self.direction == "weight":
            for m, (w, columns) in _shares(ctx.model).items():
                if m in self._pull and w.grad is not None:
                    w.grad[:, columns] += self.lam * self._pull[m]
            self._pull = self._pull_of_weights(ctx)
        k = {m: self.rho * c for m, c in self._coefficients.items()}
        for m, k_m in k.items():
            if self.apply_to == "lr":
                ctx.scale_lr(m, k_m)
            else:
                scale(ctx.model.gradients(m, "encoder"), k_m)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(ctx.model.parameters(), self.clip)
        ctx.log("k", k)

    def _l_gm(self, guides: Mapping[str, Tensor], fused: Mapping[str, Tensor]) -> Tensor:
        """Return L_gm (0-d) from two matrices (C, d_m) per modality: of its classifier, and of the fused head."""
        terms = []
        for m, c in self._coefficients.items():
            cosine = F.cosine_similarity(guides[m].flatten(), fused[m].flatten(), dim=0)
            terms.append(c.abs() - c * cosine)
        return torch.stack(terms).mean()

    def _pull_of_weights(self, ctx: Context) -> dict[str, Tensor]:
        """Return d L_gm / d W_m, with the cosines between weights as they are before this step's update."""
        directions = {m: self.classifiers[m].get_parameter("weight").detach() for m in self._coefficients}
        fused = {m: w.detach()[:, columns].requires_grad_() for m, (w, columns) in _shares(ctx.model).items()}
        return dict(zip(fused, torch.autograd.grad(self._l_gm(directions, fused), list(fused.values())), strict=True))

    def _pull_of_gradients(self, loss: Tensor, head_losses: Mapping[str, Tensor], ctx: Context) -> Tensor:
        """Return a scalar whose gradient is that of L_gm, with the cosines between loss gradients G.

        The cosine is not linear in G: its derivative V is taken at the average of all workers' G. Each worker then
        differentiates <V, its own G>, and the average of that is right. The scalar's value has no meaning.
        """
        shares = _shares(ctx.model)
        weights = {id(w): w for w, _ in shares.values()}
        grads = dict(zip(weights, torch.autograd.grad(loss, list(weights.values()), create_graph=True), strict=True))
        local = {m: grads[id(w)][:, columns] for m, (w, columns) in shares.items()}
        heads = [self.classifiers[m].get_parameter("weight") for m in head_losses]
        guides = torch.autograd.grad(list(head_losses.values()), heads, retain_graph=True)
        averaged = ctx.replicas.average([*guides, *local.values()])
        fused = {m: g.requires_grad_() for m, g in zip(local, averaged[len(head_losses) :], strict=True)}
        v = torch.autograd.grad(self._l_gm(dict(zip(head_losses, averaged, strict=False)), fused), list(fused.values()))
        return torch.stack([(a * b).sum() for a, b in zip(v, local.values(), strict=True)]).sum()

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "its factors rho c_m follow the accuracies; no setting makes all of them 1"

    def state_dict(self) -> dict[str, Any]:
        return {"previous": self._previous, "pull": self._pull}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._previous, self._pull = dict(state["previous"]), dict(state["pull"])


def _shares(model: MultimodalModel) -> dict[str, tuple[Tensor, slice]]:
    """Return each modality's (weight, columns) in a linear head."""
    return {m: share for m, (share,) in model.fusion.slices().items()}
