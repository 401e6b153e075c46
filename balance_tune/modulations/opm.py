"""OPM: the features of the modality that is ahead are dropped, sample by sample, before fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from balance_tune.models.fusion import Features
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch
from balance_tune.modulations.context import Context
from balance_tune.modulations.scores import Scores, Values, as_tensor, by_name, elementwise, ratios, stacked
from balance_tune.tasks import Task
from balance_tune.tunable import tunable

SCRIPT = "GeWu-Lab/BML_TPAMI2024 training script"


def drop_probabilities(scores: Scores, q_base: float, lam: float) -> dict[str, Tensor]:
    """Return q_m, the probability that a sample loses modality m, from the scores {modality: 0-d tensor}.

    z_m = tanh(relu(rho_m - 1));  q_m = q_base (1 + lam z_m) where z_m > 0, else 0; at most 1.
    rho_m = 1/(M-1) sum_{j != m} s_m / s_j, for two modalities the plain ratio.

    Args:
        scores: the sum over the batch of each modality's probability of the true class.
        q_base: probability at the smallest lead.
        lam: how much q grows with the lead.
    """
    return by_name(as_tensor(probabilities(ratios(stacked(scores)), q_base, lam)), scores)


def probabilities(rho: Values, q_base: float, lam: float) -> Values:
    """Return q of each modality from the scores' ratios rho, see `drop_probabilities`, where the ratios are."""

    def dropped(r: Any, _: Any, xp: Any) -> Any:
        return (r > 1) * xp.clamp(q_base * (1 + lam * xp.tanh(r - 1)), 0.0, 1.0)

    return elementwise(dropped, rho)


def drop(features: Features, draws: Tensor, q: Values) -> Features:
    """Return features of samples whose draw is at least q, all multiplied by 1 / (1 - theta).

    theta = sum_m d_m q_m / sum_m d_m. The draws are of [0, 1), (M, B); of the M probabilities q at least one is below
    1. The factor is common to all modalities, as in the official code.
    """
    each: Sequence[Any] = q if isinstance(q, tuple) else q.unbind()
    widths = [h.shape[1] for h in features.values()]
    theta = sum(d * q_m for d, q_m in zip(widths, each, strict=True)) / sum(widths)
    results = {}
    for (m, h), row, q_m in zip(features.items(), draws, each, strict=True):
        whole = isinstance(q_m, float) and q_m == 0  # nothing is dropped: known on the host only
        results[m] = h * (1 / (1 - theta) if whole else ((row >= q_m).to(h.dtype) * (1 / (1 - theta))).unsqueeze(-1))
    return results


@dataclass
class Opm(Modulation):
    """On-the-fly prediction modulation: drops the leading modality's features with a probability that follows its lead.

    z_m = tanh(relu(rho_m - 1));  q_m = q_base (1 + lam z_m) if z_m > 0 else 0
    with probability p_exe per step: h_m,i <- h_m,i Bernoulli(1 - q_m) / (1 - theta)

    Scores come from the same batch's features before dropping (official code; the paper's box lags one step). Whole
    feature vectors are dropped, independently per sample and modality. The modality with the lowest score has rho <= 1
    and q = 0, so no sample loses everything.
    The official code hands theta's value back as theta's own gradient, while the scores' features keep their graph: in
    effect a hidden loss theta^2 / 2, for the leading encoder as large as the loss's own gradient. The paper has no such
    term and neither has this; the weights differ by 3e-4 after the first step and 1e-2 to 3e-2 after 16, accuracies on
    AV-Digits do not (97.2 +- .6 and 97.4 +- .7). At start 0.05 of 100 epochs the first modulated epoch is the fifth
    (0-based), one before the official code's.
    Deviations: masks and the coin are drawn for the whole global batch, keyed by step and position, so that they do not
    depend on the number of workers; warm-up is a fraction of the run (official: epochs 0 to 5 of 100).
    """

    name: ClassVar[str] = "opm"
    tasks: ClassVar[tuple[Task, ...]] = ("classes", "multilabel")
    paper: ClassVar[str] = "Wei et al., On-the-fly Modulation for Balanced Multimodal Learning, TPAMI 2024"
    cost: ClassVar[str] = "the unimodal answers of the fusion head, without gradient"

    q_base: float = tunable(0.5, low=0.1, high=0.9, source=SCRIPT)
    lam: float = tunable(0.5, low=0.0, high=1.0, source=SCRIPT)
    p_exe: float = tunable(0.7, low=0.3, high=1.0, source=SCRIPT)
    start: float = tunable(0.05, choices=(0.0, 0.05, 0.1), source=f"{SCRIPT}: epochs 0 to 5 of 100 are a warm-up")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand("0 <= {} <= 1", "q_base", "p_exe")

    def on_features(self, features: Features, batch: Batch, ctx: Context) -> tuple[Features, Batch]:
        if not ctx.shared_coin("opm/coin", self.p_exe):
            return features, batch
        q = probabilities(ctx.score_ratios, self.q_base, self.lam)
        ctx.log("q", q)
        draws = ctx.shared_uniform("opm", len(features), max(batch.total, ctx.settings.batch_size))
        if len(batch) < batch.total:
            draws = draws[:, batch.position]
        elif len(batch) < draws.shape[1]:  # the last batch of an epoch
            draws = draws[:, : len(batch)]
        return drop(features, draws, q), batch

    def min_epochs(self, epochs: int) -> int:
        return self.epochs_of_window(epochs).start + 1

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"p_exe": 0.0})
