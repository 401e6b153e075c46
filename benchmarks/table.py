"""What every benchmark shares: medians with spread, one table, and a line about the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Table:
    """One benchmark's result: a title, what is compared in words, and rows of text."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.about, ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def show(*tables: Table) -> None:
    """Print what a benchmark found, and where."""
    for table in tables:
        print(table.markdown(), flush=True)
    print(f"({machine()})\n", flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return "median [10 %, 90 %]"."""
    if len(values) < 3:
        return " / ".join(f"{v:.{digits}f}" for v in values)
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return f"{statistics.median(values):.{digits}f} [{deciles[0]:.{digits}f}, {deciles[-1]:.{digits}f}]"


def machine() -> str:
    """Return one line about where the figures were measured."""
    import torch

    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "ray", "optuna", "mlflow"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = os.getloadavg()[0]
    where = f"{os.cpu_count()} cores, {platform.machine()}, {device}, load {load:.1f}"
    return f"{where}; Python {platform.python_version()}, {packages}"
