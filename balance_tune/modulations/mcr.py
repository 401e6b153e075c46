"""MCR: a game over which modality's exchange between samples may change the fused answer, and a contrastive term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.answers import precise
from balance_tune.modulations.base import Neutral
from balance_tune.modulations.batch import Batch, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.contrast import contrastive
from balance_tune.modulations.divergence import divergence
from balance_tune.modulations.multi_loss import MultiLoss
from balance_tune.modulations.permutation_game import Game, game, game_of
from balance_tune.modulations.pretraining import start_from_teachers
from balance_tune.modulations.reconstruction import Reconstruction
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

RUN = "kkontras/MCR run.sh, CREMA-D with ResNet"
__all__ = ["Mcr", "contrastive", "divergence", "game"]


@dataclass
class Mcr(MultiLoss):
    """Multimodal competition regulariser: a modality wants its exchange to change the answer, others want it not to.

    L = CE(f, y) + weight sum_m CE(g_m, y) + l L_game + c L_con + ceb L_ceb
    f^(S) = the fused logits with the features of the modalities in S taken from other samples of the batch
    JS_S = mean over samples and K permutations of the Jensen-Shannon divergence of softmax f^(S) and softmax f
    greedy: for every non-empty proper subset S: grad(-JS_S) reaches the modalities in S, grad(+JS_S) the others
    ind: -JS_S, which reaches the modalities in S, and all through the plain f;  colab: -JS_S, which reaches all
    L_con = NT-Xent with labels over all modalities' unit features, temperature T
    L_ceb = mean squared error of W_2 relu(W_1 f) against [h_1, ..., h_M]; its gradient does not reach f

    A modality is its encoder, and its share of a linear head (concat, sum, late) without the bias; other heads pass the
    gradient on and get none of it. The greedy game's value is exactly 0, so the curves show JS of each single modality.
    L_con compares features of all modalities, which must have one width (else set c = 0). Permutations and pairs reach
    over all workers. `pretrain` starts from encoders and heads that were trained alone for that share of the run, as
    the paper does; this is charged to the trial.

    What is known of the code (kkontras/MCR 338d370): its class for two modalities computes L_game and L_con and adds
    neither to the loss, so that the published runs with it are pretrained encoders with several losses; other classes
    add them, and so does this one. Its class for three modalities mixes up two of three detachments; here every subset
    counts as the paper says. Perturbed features are the step's own (there: of a second pass in evaluation mode for two
    modalities). By the paper L_ceb helps pretrained transformers and hurts others; its runs with Conformers have it at
    1, here it is off unless set. Weight 0.01 there goes with pretrained encoders; ours starts at 0.1.
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
    ceb: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("{} >= 0", "l", "c", "pretrain", "ceb")
        self.demand("{} >= 1", "permutations")
        self.demand("{} > 0", "temperature")
        self._reconstruction: Reconstruction | None = None

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
        if self.ceb:
            self._reconstruction = Reconstruction(model.widths, model.classes)

    def modules(self) -> nn.ModuleDict:
        if self._reconstruction is None:
            return self.heads
        return nn.ModuleDict({"heads": self.heads, "reconstruction": self._reconstruction})

    def on_epoch_start(self, ctx: Context) -> None:
        if self.pretrain and ctx.epoch == self.epochs_of_window(ctx.epochs).start:
            start_from_teachers(ctx, self.pretrain, self.heads)

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        losses = super().on_losses(losses, output, batch, ctx)
        features = {m: precise(h) for m, h in output.features.items()}
        if self._reconstruction is not None:
            losses["ceb"] = self.ceb * ctx.mean(self._reconstruction(output.logits, features), output.batch)
        if not self.l and not self.c:
            return losses
        own = [*features.values(), output.logits]
        *rows, fused = ctx.gather(torch.cat(own, dim=1), batch).split([x.shape[1] for x in own], dim=1)
        features = dict(zip(features, rows, strict=True))
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
        counts = None if self.shuffle == "rand" else labels[sigma] != labels
        total, js = game_of(ctx.model.fusion, features, fused, sigma, self.game, counts, ctx.autocast)
        ctx.log("js", js)
        return total

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"l": 0.0, "c": 0.0}, reference="multi_loss", reference_settings={"weight": 0.1})
