"""Evaluation of a model on one part of a dataset: jointly, and each modality by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from balance_tune.datasets.shards import Part
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.replicas import Replicas
from balance_tune.tasks import BY_MODALITY
from balance_tune.training.feed import Feed
from balance_tune.training.metrics import MEASURES


@torch.inference_mode()
def predict(
    model: MultimodalModel, part: Feed | Part, rank: int = 0, world: int = 1, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return (answers (N, C), unimodal answers (M, N, C)) in evaluation mode; the model's mode is restored.

    Of `world` workers each has every so-many-th row, from `rank` on. A `Part` is taken as it is stored, which is right
    for data that is stored standardised; `feed_of` makes a feed of any. Where the device's memory does not suffice,
    half as many rows are taken at once, from then on.

    Args:
        model: any mode.
        part: the rows.
        rank: of this worker.
        world: number of workers.
        batch: rows at once; None: what memory allows.
    """
    was_training = model.training
    model.eval()
    feed = part if isinstance(part, Feed) else Feed(part, device=part.labels.device)
    rows = min(batch or feed.only(model.modalities).at_once, max(1, len(feed)))
    while (answers := _answers(model, feed, rank, world, rows)) is None:
        feed.take_fewer(rows)
        rows = max(1, rows // 2)
        torch.cuda.empty_cache()
    model.train(was_training)
    return answers


def _answers(model: MultimodalModel, feed: Feed, rank: int, world: int, rows: int) -> tuple[Tensor, Tensor] | None:
    """Return what `predict` returns, `rows` samples at a time; None where the device has no memory for so many."""
    fused, alone = [], []
    try:
        for _, inputs in feed.only(model.modalities).batches(rank, world, rows):
            features = model.encode(inputs)
            fused.append(model.fusion(features).float())
            alone.append(torch.stack(list(model.fusion.unimodal_logits(features).values())).float())
    except torch.OutOfMemoryError:
        if rows == 1:
            raise
        return None
    return torch.cat(fused), torch.cat(alone, dim=1)


@torch.inference_mode()
def evaluate(
    model: MultimodalModel,
    part: Feed | Part,
    replicas: Replicas | None = None,
    *,
    prefix: str = "val",
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, float]:
    """Return what `training.metrics` measures of the model on a part, jointly and of each modality, and their gap.

    Keys for classes: `<prefix>/accuracy`, `/macro_f1`, `/loss` (mean of the task's loss), `/accuracy/<modality>`,
    `/gap` (largest minus smallest modality accuracy). Other tasks have the metrics of `tasks.METRICS`, and gap and
    modalities by `tasks.BY_MODALITY`. Several workers share the rows; counts and sums are added before any ratio is
    formed. One device synchronisation.

    Args:
        model: any mode.
        part: the rows.
        replicas: the workers that share them; None: this process alone.
        prefix: of the metrics' names.
        autocast: the arithmetic of the passes.
    """
    replicas = replicas or Replicas(alone=True)
    with autocast():
        answers, alone = predict(model, part, replicas.rank, replicas.world)
    labels = part.labels[replicas.rank :: replicas.world]
    measured, unimodal = MEASURES[model.task](answers, alone, labels, replicas)
    for k, m in enumerate(model.modalities):  # a modality by itself is judged by the rows that have it
        present = part.present(m) if isinstance(part, Feed) else None
        if present is not None:
            mine = present[replicas.rank :: replicas.world]
            unimodal[k] = MEASURES[model.task](answers[mine], alone[k : k + 1, mine], labels[mine], replicas)[1][0]
    values = torch.cat([torch.stack(list(measured.values())), unimodal]).tolist()
    by_modality = values[len(measured) :]
    name = BY_MODALITY[model.task]
    return {
        **{f"{prefix}/{metric}": v for metric, v in zip(measured, values, strict=False)},
        **{f"{prefix}/{name}/{m}": v for m, v in zip(model.modalities, by_modality, strict=True)},
        f"{prefix}/gap": max(by_modality) - min(by_modality),
    }
