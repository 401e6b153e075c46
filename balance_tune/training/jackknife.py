"""What rows or groups of rows contribute to a metric: jackknife pseudo-values, for the uncertainty of finite data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from balance_tune.replicas import Replicas
from balance_tune.tasks import METRICS
from balance_tune.training.metrics import MEASURES

MOST_UNITS = 256  # more would cost time without a benefit: their number is the degrees of freedom of the row variance


def unit_of_rows(rows: int, groups: Tensor | None) -> Tensor:
    """Return the unit (rows,) of every row, numbered from 0: rows of one group share it.

    There are at most `MOST_UNITS`; further rows or groups are dealt out in turn, the same way for every model.
    """
    index = torch.arange(rows) if groups is None else torch.unique(groups.cpu(), return_inverse=True)[1]
    return index % MOST_UNITS


def unit_values(
    task: str,
    answers: Tensor,
    labels: Tensor,
    groups: Tensor | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Return metrics as pseudo-values (U,) U T - (U - 1) T_(-i), T_(-i) being the metric without unit i.

    Their mean is the metric, for metrics that are no mean over rows up to a bias of order 1/U that is removed.

    Args:
        task: of the dataset.
        answers: (N, C) of the model, on any device.
        labels: (N,) or (N, C).
        groups: (N,) names of the rows' groups as numbers; None for independent rows.
        metrics: of the task; None: all.
    """
    answers, labels = answers.cpu(), labels.cpu()
    unit = unit_of_rows(len(labels), groups)
    everything = torch.ones_like(unit, dtype=torch.bool)
    names = METRICS[task] if metrics is None else metrics

    def measured(keep: Tensor) -> Tensor:
        values, _ = MEASURES[task](answers[keep], answers[keep].unsqueeze(0), labels[keep], Replicas(alone=True))
        return torch.stack([values[name].double() for name in names])

    count = int(unit.max()) + 1
    if count < 2:
        return {}
    without = torch.stack([measured(unit != i) for i in range(count)])
    values = count * measured(everything) - (count - 1) * without
    return {name: values[:, i] for i, name in enumerate(names)}


def packed(values: Mapping[str, Tensor]) -> dict[str, str]:
    """Return pseudo-values as JSON holds them: base64 of float32."""
    return {name: base64.b64encode(v.numpy().astype("<f4").tobytes()).decode() for name, v in values.items()}
