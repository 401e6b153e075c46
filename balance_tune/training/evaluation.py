"""Evaluation of a model on one part of a dataset: jointly, and each modality by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.datasets.shards import Part
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.replicas import Replicas

BATCH = 4096


@torch.inference_mode()
def predict(model: MultimodalModel, part: Part, rows: slice = slice(None), batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Return (logits (N, C), unimodal logits (M, N, C)) in evaluation mode; the model's mode is restored."""
    was_training = model.training
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
    """Return accuracy, macro F1 and loss of the model on a part, each modality's accuracy, and their gap.

    Keys: `<prefix>/accuracy`, `/macro_f1`, `/loss`, `/accuracy/<modality>`, `/gap` (largest minus smallest modality
    accuracy). All are fractions but the loss (mean cross-entropy, nats). Several workers share the rows; counts and
    sums are added before any ratio is formed. One device synchronisation.
    """
    replicas = replicas or Replicas()
    rows = slice(replicas.rank, None, replicas.world)
    labels = part.labels[rows]
    with autocast():
        logits, alone = predict(model, part, rows)
    classes, guess = logits.shape[1], logits.argmax(1)
    confusion = torch.bincount(labels * classes + guess, minlength=classes * classes).double()
    correct = (alone.argmax(-1) == labels).sum(-1).double()
    loss = F.cross_entropy(logits, labels, reduction="sum").double()
    confusion, correct, loss = replicas.sum(confusion, correct, loss)
    table = confusion.view(classes, classes)
    hits, total = table.diagonal(), table.sum()
    f1 = 2 * hits / (table.sum(0) + table.sum(1)).clamp_min(1)
    present = table.sum(1) > 0  # a class without samples has no F1
    head = torch.stack([hits.sum() / total, f1[present].mean(), loss / total])
    accuracy, macro_f1, mean_loss, *by_modality = torch.cat([head, correct / total]).tolist()
    return {
        f"{prefix}/accuracy": accuracy,
        f"{prefix}/macro_f1": macro_f1,
        f"{prefix}/loss": mean_loss,
        **{f"{prefix}/accuracy/{m}": a for m, a in zip(model.modalities, by_modality, strict=True)},
        f"{prefix}/gap": max(by_modality) - min(by_modality),
    }
