"""What the labels of a dataset are, and what a study may aim at on them: which way is better, how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar, get_args

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
_ABSOLUTE = ("loss", "mae", "pearson")  # written as they are, not in %

T = TypeVar("T")


class Objective(str):
    """The name of a metric, such as "val/mae" or "accuracy", with everything that depends on which metric it is.

    It is a string, so that it names the metric in rows, JSON files and study files.

    >>> Objective("val/mae").best([0.31, 0.29])
    0.29
    >>> Objective("val/accuracy").text(0.9573)
    '95.7'
    """

    __slots__ = ()

    @property
    def metric(self) -> str:
        """The metric without the part it is measured on: "mae" of "val/mae"."""
        parts = self.split("/")
        return parts[1] if len(parts) > 1 and parts[0] in ("val", "test") else parts[0]

    @property
    def lower_is_better(self) -> bool:
        return self.metric in _SMALL

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """The direction of optimization, in Optuna's words."""
        return "minimize" if self.lower_is_better else "maximize"

    @property
    def is_share(self) -> bool:
        """Whether values are written in %: accuracies, F1, precision; not errors or correlations."""
        return self.metric not in _ABSOLUTE

    @property
    def worst(self) -> float | None:
        """The worst value there can be, which a failed run scores; None where there is none, as of an error."""
        return 0.0 if self.is_share else -1.0 if self.metric == "pearson" else None

    @property
    def span(self) -> float | None:
        """The largest difference of two values; None where there is none."""
        return None if self.worst is None else 1.0 - self.worst

    @property
    def by_modality(self) -> Objective:
        """The metric that an evaluation tells of single modalities where it tells this one of their fusion."""
        return Objective(next((BY_MODALITY[t] for t, names in METRICS.items() if self.metric in names), "accuracy"))

    def gain(self, value: float) -> float:
        """Return `value` with the sign that makes larger better; applied twice, it gives `value` again."""
        return -value if self.lower_is_better else value

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best value, the first of equal ones; None of nothing."""
        return self.best_of(values, lambda value: value)

    def best_of(self, items: Iterable[T], value: Callable[[T], float]) -> T | None:
        """Return the item with the best `value(item)`, the first of equal ones; None of nothing."""
        return max(items, key=lambda item: self.gain(value(item)), default=None)

    def text(self, value: float | None) -> str:
        """Return a value as tables show it: a share in % without the sign, else three decimals; a dash for None."""
        if value is None:
            return "-"
        return f"{100 * value:.1f}" if self.is_share else f"{value:.3f}"

    def text_with_unit(self, value: float | None) -> str:
        """Return a value as sentences show it: as `text`, with the % sign where the value is a share."""
        return f"{self.text(value)} %" if self.is_share else self.text(value)

    def difference(self, value: float | None) -> str:
        """Return a signed difference of two values: in percentage points of a share, else as it is."""
        if value is None:
            return "-"
        text = f"{100 * value:+.1f}" if self.is_share else f"{value:+.3f}"
        return text.replace("-", "\N{MINUS SIGN}")

    def size(self, difference: float) -> str:
        """Return the size of a difference in words; points have a second decimal where one alone would show zero."""
        if not self.is_share:
            return f"{abs(difference):.3f}"
        points = abs(100 * difference)
        return f"{points:.2f} points" if 0 < points < 0.1 else f"{points:.1f} points"


def check_objective(objective: str, task: str, dataset: str) -> None:
    """Raise a `UserError` where an objective does not exist for a dataset's task."""
    metrics = METRICS[task]
    if Objective(objective).metric not in metrics:
        raise UserError(
            f"`objective` must be a metric of every dataset, but got `{objective}`, and {dataset} ({task}) has "
            f"{', '.join(f'val/{name}' for name in metrics)}."
        )
