"""What the labels of a dataset are, what a study may aim at on them, and which way is better."""

from __future__ import annotations

from typing import Literal, get_args

from balance_tune.errors import UserError

Task = Literal["classes", "multilabel", "regression"]
"""One class of several (N,); any number of labels at once (N, C) of 0 and 1; real numbers (N, K)."""

TASKS: tuple[Task, ...] = get_args(Task)
METRICS: dict[str, tuple[str, ...]] = {
    "classes": ("accuracy", "macro_f1"),
    "multilabel": ("map", "micro_f1", "macro_f1", "accuracy"),
    "regression": ("mae", "pearson", "binary_accuracy", "acc7"),
}
"""What an evaluation tells of each task, beside the loss; the main one first."""

BY_MODALITY: dict[str, str] = {"classes": "accuracy", "multilabel": "map", "regression": "pearson"}
"""What an evaluation tells of each modality's own answers: nothing that depends on how large these answers are."""

OBJECTIVES: tuple[str, ...] = tuple(dict.fromkeys(f"val/{name}" for names in METRICS.values() for name in names))
_SMALL = ("loss", "gap", "mae")  # better when smaller
_ABSOLUTE = ("loss", "mae", "pearson")  # told as they are, not in %


def lower_is_better(objective: str) -> bool:
    """Return whether `val/mae`, say, is to be made small; a bare metric's name is understood too."""
    return _metric(objective) in _SMALL


def is_share(objective: str) -> bool:
    """Return whether a metric is told in %: accuracies, F1, precision; not errors or correlations."""
    return _metric(objective) not in _ABSOLUTE


def modality_metric(objective: str) -> str:
    """Return what an evaluation tells of single modalities where it tells `objective` of their fusion."""
    return next((BY_MODALITY[t] for t, names in METRICS.items() if _metric(objective) in names), "accuracy")


def check_objective(objective: str, task: str, dataset: str) -> None:
    """Raise a `UserError` where an objective does not exist for a dataset's task."""
    known = METRICS[task]
    if _metric(objective) not in known:
        raise UserError(
            f"`objective` must be a metric of every dataset, but got `{objective}`, and {dataset} ({task}) has "
            f"{', '.join(f'val/{name}' for name in known)}."
        )


def _metric(objective: str) -> str:
    parts = objective.split("/")
    return parts[1] if len(parts) > 1 and parts[0] in ("val", "test") else parts[0]
