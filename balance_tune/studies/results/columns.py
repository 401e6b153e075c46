"""Columns of the leaderboard: meaning, unit, format in tables, and which outputs show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from balance_tune.tasks import Objective


class Measured(Protocol):
    """A row that names the metrics of its values."""

    @property
    def metric(self) -> Objective: ...

    @property
    def objective(self) -> Objective: ...


@dataclass(frozen=True)
class Unit:
    """A unit of measure.

    Attributes:
        name: the name in the documentation.
        text: (row, value) -> what tables write.
    """

    name: str
    text: Callable[[Measured, Any], str]


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage without its sign, or a dash."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}"


def p_text(p: float | None) -> str:
    """Return a p-value as papers print it."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def interval(ends: tuple[float, float] | None, metric: Objective) -> str:
    """Return an interval of differences of a metric, or a dash."""
    return "-" if ends is None else f"{metric.difference(ends[0])} to {metric.difference(ends[1])}"


TEXT = Unit("text", lambda row, value: str(value))
YES_NO = Unit("true or false", lambda row, value: "yes" if value else "no")
COUNT = Unit("count", lambda row, value: str(value))
SEEDS = Unit("list of seeds", lambda row, value: ", ".join(map(str, value)) or "-")
SECONDS = Unit("seconds", lambda row, value: f"{value:.1f}")
SHARE = Unit("fraction", lambda row, value: f"{percent(value, 0)} %")
SHARES = Unit("fractions", lambda row, value: f"{percent(value[0], 0)} to {percent(value[1], 0)} %")
PROBABILITY = Unit("probability", lambda row, value: p_text(value))
SETTINGS = Unit("mapping", lambda row, value: json.dumps(value))
VALIDATION = Unit("of `objective`", lambda row, value: row.objective.text(value))
SCORE = Unit("of `metric`", lambda row, value: row.metric.text(value))
RANGE = Unit("of `metric`", lambda row, value: f"{row.metric.text(value[0])} to {row.metric.text(value[1])}")
DIFFERENCE = Unit("of `metric`", lambda row, value: row.metric.difference(value))
INTERVAL = Unit("of `metric`", lambda row, value: interval(value, row.metric))
BY_MODALITY = Unit(
    "of the metric of single modalities",
    lambda row, value: ", ".join(f"{name} {row.metric.by_modality.text(score)}" for name, score in value.items()),
)


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        name: the name in JSON, CSV, MLflow and Python.
        meaning: one sentence.
        unit: the unit of the values.
        header: what the tables for terminals and Markdown call it; empty where they leave it out.
        cell: what these tables show, where that is more than the value in its unit.
        mlflow: whether it is the metric `leaderboard/NAME` of the arm's run in MLflow.
    """

    name: str
    meaning: str
    unit: Unit
    header: str = ""
    cell: Callable[[Any], str] | None = None
    mlflow: bool = False

    def text(self, row: Measured) -> str:
        """Return the value of a row in its unit, or a dash where it is not known."""
        value = getattr(row, self.name)
        return "-" if value is None else self.unit.text(row, value)

    def table_text(self, row: Measured) -> str:
        """Return the cell of the tables for terminals and Markdown."""
        return self.text(row) if self.cell is None else self.cell(row)


def column(
    meaning: str,
    unit: Unit,
    default: Any = None,
    *,
    header: str = "",
    cell: Callable[[Any], str] | None = None,
    mlflow: bool = False,
) -> Any:
    """Declare a field of a row as a column, with the arguments of `Column`; `default` is the value while unknown."""
    metadata = {"meaning": meaning, "unit": unit, "header": header, "cell": cell, "mlflow": mlflow}
    return field(default=default, metadata=metadata)
