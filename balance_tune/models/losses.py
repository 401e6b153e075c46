"""The loss of one sample, and how sure an answer is of the truth, for each task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_losses(task: str, answers: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each sample (B,) for answers (B, C).

    classes: cross-entropy, labels (B,). multilabel: mean binary cross-entropy over labels (B, C) of 0 and 1.
    regression: mean absolute error over the targets (B, C).

    Args:
        task: `classes`, `multilabel` or `regression`.
        answers: (B, C) logits, or numbers of a regression.
        labels: as of the task.
    """
    if task == "classes":
        return F.cross_entropy(answers, labels, reduction="none")
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(answers, labels.to(answers.dtype), reduction="none").mean(1)
    return (answers - labels.to(answers.dtype)).abs().mean(1)


def squared_errors(answers: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Return (M, B), each modality's mean squared error over the targets (B, K), from {modality: (B, K)}."""
    together = torch.stack(list(answers.values())).detach()
    return (together - labels.to(together.dtype)).square().mean(-1)
