"""What an evaluation says about answers, for each task; workers share the rows and get the same result."""

from __future__ import annotations

import torch
from torch import Tensor

from balance_tune.models.losses import sample_losses
from balance_tune.replicas import Replicas


def classification(
    logits: Tensor, alone: Tensor, labels: Tensor, replicas: Replicas
) -> tuple[dict[str, Tensor], Tensor]:
    """Return accuracy, macro F1 and loss of logits (N, C), and each modality's accuracy (M,) from alone (M, N, C).

    A class without samples has no F1 and is left out of the mean.
    """
    classes, guess = logits.shape[1], logits.argmax(1)
    counted = labels * classes + guess
    confusion = torch.zeros(classes * classes, dtype=torch.float64, device=logits.device)
    confusion.index_add_(0, counted, torch.ones_like(counted, dtype=torch.float64))
    correct = (alone.argmax(-1) == labels).sum(-1).double()
    loss = sample_losses("classes", logits, labels).sum().double()
    confusion, correct, loss = replicas.sum(confusion, correct, loss)
    table = confusion.view(classes, classes)
    hits, total = table.diagonal(), table.sum()
    f1 = 2 * hits / (table.sum(0) + table.sum(1)).clamp_min(1)
    present = table.sum(1) > 0
    return {"accuracy": hits.sum() / total, "macro_f1": mean_of(f1, present), "loss": loss / total}, correct / total


def multilabel(logits: Tensor, alone: Tensor, labels: Tensor, replicas: Replicas) -> tuple[dict[str, Tensor], Tensor]:
    """Return mean average precision, micro and macro F1, accuracy and loss, and each modality's precision (M,).

    F1 and accuracy take a logit above 0 for a yes; accuracy is the share of samples with all labels right. Labels that
    no sample has are left out of the means over labels.
    """
    logits, labels = replicas.gather(logits).double(), replicas.gather(labels)
    alone = replicas.gather(alone.transpose(0, 1).contiguous()).transpose(0, 1)
    truth, guess = labels > 0.5, logits > 0
    hits, wrong = (truth & guess).sum(0).double(), (truth != guess).sum(0).double()
    f1 = 2 * hits / (2 * hits + wrong).clamp_min(1)
    present = truth.any(0)
    return {
        "map": mean_of(average_precision(logits, truth), present),
        "micro_f1": 2 * hits.sum() / (2 * hits.sum() + wrong.sum()).clamp_min(1),
        "macro_f1": mean_of(f1, present),
        "accuracy": (truth == guess).all(1).double().mean(),
        "loss": sample_losses("multilabel", logits, labels).mean(),
    }, torch.stack([mean_of(average_precision(answer, truth), present) for answer in alone])


def regression(answers: Tensor, alone: Tensor, labels: Tensor, replicas: Replicas) -> tuple[dict[str, Tensor], Tensor]:
    """Return MAE, Pearson correlation, binary and seven-class accuracy, loss, and each modality's correlation (M,).

    Means over targets. As published on CMU-MOSEI: binary is non-negative against negative, of seven classes is the
    nearest of -3 .. 3. A correlation with what does not vary counts as 0.
    """
    answers, labels = replicas.gather(answers).double(), replicas.gather(labels).double()
    alone = replicas.gather(alone.transpose(0, 1).contiguous()).transpose(0, 1).double()
    errors = (answers - labels).abs()
    return {
        "mae": errors.mean(),
        "pearson": pearson(answers, labels),
        "binary_accuracy": ((answers >= 0) == (labels >= 0)).double().mean(),
        "acc7": (answers.clamp(-3, 3).round() == labels.clamp(-3, 3).round()).double().mean(),
        "loss": errors.mean(),
    }, torch.stack([pearson(answer, labels) for answer in alone])


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values (0-d) from (N,) and bool (N,); the host need not know how many they are."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum()


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Return each label's average precision (C,) from scores (N, C) and truth (N, C), 0 where no sample has it.

    AP = sum_k (R_k - R_{k-1}) P_k over the distinct scores as thresholds, so that ties do not depend on the order.
    """
    n = len(scores)
    ranked, order = scores.sort(0, descending=True)
    hits = truth.gather(0, order).double()
    places = torch.arange(1, n + 1, device=scores.device, dtype=torch.float64).unsqueeze(1)
    precision = hits.cumsum(0) / places
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(hits[:1], dtype=torch.bool)])
    end = torch.where(last, places.long() - 1, n).flip(0).cummin(0).values.flip(0)  # where the row's tie ends
    return (precision.gather(0, end) * hits).sum(0) / hits.sum(0).clamp_min(1)


def pearson(answers: Tensor, labels: Tensor) -> Tensor:
    """Return the correlation of answers and labels (N, K), the mean over targets."""
    a, b = answers - answers.mean(0), labels - labels.mean(0)
    size = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return torch.where(size > 1e-12, (a * b).sum(0) / size.clamp_min(1e-12), 0.0).mean()


MEASURES = {"classes": classification, "multilabel": multilabel, "regression": regression}
