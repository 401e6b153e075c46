"""MCR: a game over which modality's exchange between samples may change the fused answer, and a contrastive term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features, frozen
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.modulations.pretraining import start_from_teachers
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

RUN = "kkontras/MCR run.sh, CREMA-D with ResNet"
Game = Literal["greedy", "ind", "colab"]


def jensen_shannon(logits: Tensor, permuted: Tensor) -> Tensor:
    """Return JS(softmax a, softmax b) in nats of each sample (...) from logits (..., C)."""
    a, b = logits.log_softmax(-1), permuted.log_softmax(-1)
    mean = torch.logaddexp(a, b) - torch.log(torch.tensor(2.0, dtype=a.dtype))
    return 0.5 * (a.exp() * (a - mean) + b.exp() * (b - mean)).sum(-1)


def divergence(logits: Tensor, permuted: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence (0-d) of softmax between answers.

    Args:
        logits: (B, C) of the batch.
        permuted: (B, C), or (K B, C) in blocks of B, one for each permutation.
    """
    return jensen_shannon(logits, permuted.view(-1, *logits.shape)).mean()


def contrastive(features: Mapping[str, Tensor], labels: Tensor, temperature: float) -> Tensor:
    """Return the NT-Xent loss with labels (0-d) over all modalities' unit features {modality: (B, d)}.

    Mean over ordered pairs i != j of one label of -log(e_ij / (e_ij + sum over k of other labels of e_ik)),
    e_ij = exp(cos(h_i, h_j) / temperature); 0 where there is no such pair.
    """
    h = F.normalize(torch.cat(list(features.values())), dim=1)
    y = labels.repeat(len(features))
    similar = h @ h.T / temperature
    same = y.unsqueeze(1) == y
    others = similar.masked_fill(same, torch.finfo(similar.dtype).min / 4).logsumexp(1, keepdim=True)
    pairs = same.to(similar.dtype).fill_diagonal_(0)
    return (F.softplus(others - similar) * pairs).sum() / pairs.sum().clamp_min(1)


def game(
    rows: Features,
    fused: Tensor,
    sigma: Tensor,
    kind: Game,
    answer: Callable[[Features], Tensor] | None = None,
    counts: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return L_game (0-d, with gradient) and JS of each single modality (0-d).

    Args:
        rows: {modality: (B, C)}, which add up to the logits without their bias; or features (B, d_m), with `answer`.
        fused: logits (B, C) of the samples as they are.
        sigma: (K, B), the samples whose rows are taken in each permutation.
        kind: of the game.
        answer: the logits (K, B, C) of features (K, B, d_m), where the head mixes modalities.
        counts: (K, B) bool, which samples and permutations count; all unless given.
    """
    greedy = kind == "greedy"
    fused = fused.detach() if greedy else fused
    bias = fused - torch.stack(list(rows.values())).sum(0) if answer is None else fused
    total, single = fused.new_zeros(()), {}
    for k in range(1, len(rows)):
        for chosen in combinations(rows, k):
            mixed = {}
            for m, x in rows.items():
                taken = x[sigma] if m in chosen else x.expand(len(sigma), *x.shape)
                if greedy:
                    mixed[m] = _turned(taken) if m in chosen else taken
                else:
                    mixed[m] = taken if m in chosen or kind == "colab" else taken.detach()
            if answer is None:
                permuted = (bias.detach() if greedy else bias) + torch.stack(list(mixed.values())).sum(0)
            else:
                permuted = answer(mixed)
            each = jensen_shannon(fused, permuted)
            js = each.mean() if counts is None else (each * counts).sum() / counts.sum().clamp_min(1)
            total = total + (js - js.detach() if greedy else -js)
            if k == 1:
                single[chosen[0]] = js.detach()
    return total, single


def _turned(x: Tensor) -> Tensor:
    """Return x with its gradient reversed."""
    return 2 * x.detach() - x


@dataclass
class Mcr(MultiLoss):
    """Multimodal competition regulariser: a modality wants its exchange to change the answer, others want it not to.

    L = CE(f, y) + weight sum_m CE(g_m, y) + l L_game + c L_con
    f^(S) = the fused logits with the features of the modalities in S taken from other samples of the batch
    JS_S = mean over samples and K permutations of the Jensen-Shannon divergence of softmax f^(S) and softmax f
    greedy: for every non-empty proper subset S: grad(-JS_S) reaches the modalities in S, grad(+JS_S) the others
    ind: -JS_S, which reaches the modalities in S, and all through the plain f;  colab: -JS_S, which reaches all
    L_con = NT-Xent with labels over all modalities' unit features, temperature T

    A modality is its encoder, and its share of a linear head (concat, sum, late) without the bias; other heads pass the
    gradient on and get none of it. The greedy game's value is exactly 0, so the curves show JS of each single modality.
    L_con compares features of all modalities, which must have one width (else set c = 0). Permutations and pairs reach
    over all workers. `pretrain` starts from encoders and heads that were trained alone for that share of the run, as
    the paper does; this is charged to the trial.

    What is known of the code (kkontras/MCR 338d370): its class for two modalities computes L_game and L_con and adds
    neither to the loss, so that the published runs with it are pretrained encoders with several losses; other classes
    add them, and so does this one. Its class for three modalities mixes up two of three detachments; here every subset
    counts as the paper says. Perturbed features are the step's own (there: of a second pass in evaluation mode for two
    modalities). The CEB term, which helps pretrained transformers only, is left out. Weight 0.01 there goes with
    pretrained encoders; ours starts at 0.1.
    """

    name: ClassVar[str] = "mcr"
    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    paper: ClassVar[str] = (
        "Kontras et al., Balancing Multimodal Training Through Game-Theoretic Regularization, NeurIPS 2025"
    )
    cost: ClassVar[str] = (
        "one linear head per modality; 2^M - 2 times K permutations of the logits, for other than linear heads passes "
        "through the fusion"
    )

    weight: float = tunable(0.1, low=0.01, high=1.0, log=True, source=f"{RUN}: 0.01 after pretraining")
    l: float = tunable(0.1, low=1e-3, high=1.0, log=True, source=RUN)  # noqa: E741  (the paper's name)
    c: float = tunable(1.0, choices=(0.0, 1.0), source=RUN)
    temperature: float = tunable(0.5, low=0.1, high=1.0, log=True, source=RUN)
    permutations: int = 8
    game: Game = "greedy"
    shuffle: Literal["rand", "rand_rsl"] = "rand"
    pretrain: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("l", "c", "pretrain"):
            if getattr(self, field) < 0:
                raise UserError(f"`{field} >= 0` must hold for mcr, but got {getattr(self, field)!r}.")
        if self.permutations < 1 or not self.temperature > 0:
            raise UserError(
                "`permutations >= 1` and `temperature > 0` must hold for mcr, but got "
                f"({self.permutations=}, {self.temperature=})."
            )
        self._started = not self.pretrain

    def beyond_step(self) -> str:
        return (
            "a model of each modality trained alone beforehand (`ctx.teacher`)"
            if self.pretrain
            else super().beyond_step()
        )

    def build(self, model: MultimodalModel) -> None:
        if self.c and len(set(model.widths.values())) > 1:
            raise UserError(
                f"mcr compares features of all modalities, which must have one width, but got {model.widths}; set "
                "`features` of their encoders, or c = 0."
            )
        super().build(model)

    def on_epoch_start(self, ctx: Context) -> None:
        if not self._started:
            start_from_teachers(ctx, self.pretrain, self.heads)
            self._started = True

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        losses = super().on_losses(losses, output, batch, ctx)
        if not self.l and not self.c:
            return losses
        own = [*(precise(h) for h in output.features.values()), output.logits]
        *rows, fused = ctx.gather(torch.cat(own, dim=1), batch).split([x.shape[1] for x in own], dim=1)
        features = dict(zip(output.features, rows, strict=True))
        labels = ctx.gather(batch.labels, batch)
        if self.l:
            losses["game"] = self.l * self.regulariser(features, fused, labels, ctx)
        if self.c:
            losses["contrastive"] = self.c * contrastive(features, labels, self.temperature)
        return losses

    def regulariser(self, features: Features, fused: Tensor, labels: Tensor, ctx: Context) -> Tensor:
        """Return L_game (0-d) from the global batch's features {modality: (B, d_m)} and fused logits (B, C)."""
        generator, size = ctx.shared_generator("mcr"), len(labels)
        draws = [torch.randperm(size, generator=generator, device=ctx.device) for _ in range(self.permutations)]
        sigma = torch.stack(draws)
        with ctx.autocast():
            parts = ctx.model.fusion.parts(features)
        rows = features if parts is None else {m: precise(f) for m, f in parts.items()}
        fixed = self.game == "greedy"

        def answer(rows: Features) -> Tensor:
            with ctx.autocast(), frozen(ctx.model.fusion) if fixed else nullcontext():
                return precise(ctx.model.fusion({m: x.flatten(0, 1) for m, x in rows.items()})).view(*sigma.shape, -1)

        counts = None if self.shuffle == "rand" else labels[sigma] != labels
        total, js = game(rows, fused, sigma, self.game, answer if parts is None else None, counts)
        ctx.log("js", js)
        return total

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"l": 0.0, "c": 0.0}, reference="multi_loss", reference_settings={"weight": 0.1})

    def state_dict(self) -> dict[str, Any]:
        return {"started": self._started}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._started = state["started"]
