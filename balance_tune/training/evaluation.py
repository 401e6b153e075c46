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
from balance_tune.training.metrics import MEASURES


def at_once(device: torch.device) -> int:
    """Return how many samples an evaluation-mode pass takes at once: on a CPU, as many as its cache holds."""
    return 256 if device.type == "cpu" else 1024


@torch.inference_mode()
def predict(
    model: MultimodalModel, part: Part, rows: slice = slice(None), batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return (answers (N, C), unimodal answers (M, N, C)) in evaluation mode; the model's mode is restored."""
    was_training, batch = model.training, batch or at_once(part.labels.device)
    model.eval()
    inputs = {m: part.inputs[m][rows] for m in model.modalities}
    fused, alone = [], []
    for start in range(0, len(next(iter(inputs.values()))), batch):
        features = model.encode({m: x[start : start + batch] for m, x in inputs.items()})
        fused.append(model.fusion(features).float())
        alone.append(torch.stack(list(model.fusion.unimodal_logits(features).values())).float())
    model.train(was_training)
    return torch.cat(fused), torch.cat(alone, dim=1)


@torch.inference_mode()
def evaluate(
    model: MultimodalModel,
    part: Part,
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
    """
    replicas = replicas or Replicas()
    rows = slice(replicas.rank, None, replicas.world)
    with autocast():
        answers, alone = predict(model, part, rows)
    measured, own = MEASURES[model.task](answers, alone, part.labels[rows], replicas)
    values = torch.cat([torch.stack(list(measured.values())), own]).tolist()
    by_modality = values[len(measured) :]
    name = BY_MODALITY[model.task]
    return {
        **{f"{prefix}/{metric}": v for metric, v in zip(measured, values, strict=False)},
        **{f"{prefix}/{name}/{m}": v for m, v in zip(model.modalities, by_modality, strict=True)},
        f"{prefix}/gap": max(by_modality) - min(by_modality),
    }
