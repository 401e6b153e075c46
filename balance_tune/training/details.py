"""What an evaluation tells beyond an epoch's metrics: which classes are taken for which, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from balance_tune.training.metrics import average_precision, pearson

BINS = 15


def confusion(guesses: Tensor, labels: Tensor, classes: int) -> list[list[int]]:
    """Return counts: row = true class, column = class that was given; `guesses` and `labels` are (N,)."""
    flat = torch.bincount(labels * classes + guesses, minlength=classes * classes)
    table: list[list[int]] = flat.view(classes, classes).tolist()
    return table


def by_class(table: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows, accuracy (recall), precision and F1 of every class; None where there is nothing to divide by."""
    guesses = [sum(column) for column in zip(*table, strict=True)]
    results = []
    for i, (name, row) in enumerate(zip(classes, table, strict=True)):
        hits, rows = row[i], sum(row)
        results.append(
            {
                "class": name,
                "rows": rows,
                "accuracy": hits / rows if rows else None,
                "precision": hits / guesses[i] if guesses[i] else None,
                "f1": 2 * hits / (rows + guesses[i]) if rows else None,
            }
        )
    return results


def by_label(answers: Tensor, labels: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows with it, average precision, precision, recall and F1 of every label; answers and labels (N, C)."""
    truth, guess = labels > 0.5, answers > 0
    precision = average_precision(answers, truth).tolist()
    results = []
    for i, name in enumerate(names):
        rows, guesses, hits = int(truth[:, i].sum()), int(guess[:, i].sum()), int((truth & guess)[:, i].sum())
        results.append(
            {
                "class": name,
                "rows": rows,
                "average_precision": precision[i] if rows else None,
                "recall": hits / rows if rows else None,
                "precision": hits / guesses if guesses else None,
                "f1": 2 * hits / (rows + guesses) if rows else None,
            }
        )
    return results


def by_target(answers: Tensor, labels: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return mean absolute error and correlation of every target of a regression; answers and labels (N, K)."""
    answers, labels = answers.double(), labels.double()
    return [
        {
            "class": name,
            "rows": len(labels),
            "mae": float((answers[:, i] - labels[:, i]).abs().mean()),
            "pearson": float(pearson(answers[:, i : i + 1], labels[:, i : i + 1])),
        }
        for i, name in enumerate(names)
    ]


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error of probabilities (N, C).

    ECE = sum_b n_b/N |accuracy_b - confidence_b| over `bins` equal bins of the highest probability (Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017, eq. 3).
    """
    confidence, guess = probabilities.double().max(1)
    surplus = (guess == labels).double() - confidence
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)  # bin b holds (b/B, (b+1)/B]
    sums = torch.zeros(bins, dtype=torch.float64, device=surplus.device).index_add_(0, place, surplus)
    return float(sums.abs().sum() / len(labels))
