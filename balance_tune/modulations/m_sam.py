"""M-SAM: as much of the step is SAM's as the dominant modality has of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.sam import Sam
from balance_tune.modulations.scores import by_name, score_sums
from balance_tune.modulations.shapley import mono_modal_logits, silenced_answers
from balance_tune.tasks import Task
from balance_tune.tunable import tunable


def shares(responses: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return nu_m (0-d), adding up to 1, from the modalities' responses {modality: (B, C)} and labels (B,).

    nu_m = s_m / sum_j s_j,  s_m = mean_i softmax(Phi_m,i)[y_i]
    """
    s = score_sums(responses, labels)
    return by_name(s / s.sum(), responses)


@dataclass
class MSam(Sam):
    """Modality-aware SAM: a mix of SAM and the plain step, weighted by the dominant modality's share.

    Phi_m = Shapley share of modality m in the logits, inputs of the others zeroed;  s_m = mean_i softmax(Phi_m,i)[y_i]
    nu = max_m s_m / sum_j s_j;  eps = rho g / |g|
    gradient = nu grad L(theta + eps) + (1 - nu) grad L(theta)

    The paper splits L into the dominant modality's part nu_d L and the rest, and lets SAM's ascent follow the former.
    The shares are numbers without gradient, so eps is SAM's own and the step is the mix above: which modality dominates
    never matters, only how much. With M alike modalities nu is 1/M, about half SAM for two. Compare it with `sam`.

    No public code was found; this follows Algorithm 1 of arXiv 2510.24919. Where the text is open: the score of a
    response is the mean probability of the truth (the text speaks of the contribution to the accuracy:
    `share_of="accuracy"`); rho is not given and starts at SAM's 0.05; running statistics of BatchNorm are those of the
    first pass; zero inputs are encoded in evaluation mode, as in AGM.
    """

    name: ClassVar[str] = "m_sam"
    tasks: ClassVar[tuple[Task, ...]] = ("classes", "multilabel")
    paper: ClassVar[str] = (
        "Nowdeh et al., Modality-Aware SAM: Sharpness-Aware-Minimization Driven Gradient Modulation for Harmonized "
        "Multimodal Learning, NeurIPS 2025"
    )
    cost: ClassVar[str] = (
        "a second forward and backward pass, and 2^M - 2 passes of the fusion and one sample through each encoder "
        "without gradient"
    )

    rho: float = tunable(0.05, low=0.01, high=0.5, log=True, source="SAM's default; the M-SAM paper gives none")
    share_of: Literal["probability", "accuracy"] = "probability"

    @torch.no_grad()
    def share(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        modalities = ctx.model.modalities
        whole = {frozenset(modalities): output.logits.detach()}
        answers = {**whole, **silenced_answers(output.features, batch, ctx)}
        if self.share_of == "accuracy":
            right = {present: _accuracy(f, batch.labels) for present, f in answers.items()}
            accuracies = torch.stack(list(mono_modal_logits(right, modalities).values())).sum(1)
            (s,) = ctx.replicas.sum(accuracies)
            s = s.clamp_min(0)
            s = torch.where(s.sum() > 0, s, torch.ones_like(s))
        else:
            (s,) = ctx.replicas.sum(score_sums(mono_modal_logits(answers, modalities), batch.labels))
        nu = s / s.sum()
        ctx.log("share", by_name(nu, dict.fromkeys(modalities)))
        return nu.amax()


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (B,) of 0 and 1, or of several labels the share that is right."""
    if labels.dim() == 2:
        return ((logits > 0) == (labels > 0.5)).to(logits.dtype).mean(1)
    return (logits.argmax(1) == labels).to(logits.dtype)
