"""Test scores of the arms with modalities missing from test rows: curves for the report, and a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.results.arm_results import ArmResults
from balance_tune.studies.results.statistics import sd_of
from balance_tune.studies.storage.records import TrialRecord

COLUMNS = ("dataset", "protocol", "method", "modality", "rate", "missing", "metric", "mean", "sd", "seeds")
ALL = "all"  # in place of a modality: all of them, each independently of the others


@dataclass(frozen=True)
class Robustness:
    """One metric of one arm, its chosen point, where modalities are missing at one rate.

    Attributes:
        dataset, protocol, method: the arm.
        modality: what is missing; "all" for all of them.
        rate: the probability that a row lacks it.
        missing: the share of these modalities that were taken from the rows; below the rate where a row keeps one.
        metric: the metric, as "accuracy".
        mean: over the confirmation seeds.
        sd: standard deviation over them; None of one seed.
        seeds: how many they are.
    """

    dataset: str
    protocol: str
    method: str
    modality: str
    rate: float
    missing: float
    metric: str
    mean: float
    sd: float | None
    seeds: int


def robustness_of(records: list[TrialRecord], rule: Rule, protocol: str, folder: Path) -> list[Robustness]:
    """Return the scores of one arm with missing modalities; nothing if the study does not measure them.

    Args:
        records: all of the arm.
        rule: of the study.
        protocol: of the arm.
        folder: of the study.
    """
    arm_results = ArmResults.of(records, rule, protocol, folder, 1 + max(r.replicate for r in records))
    tests = [test for cell in arm_results.cells for test in cell.tests.values()]
    by_case: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for test in tests:
        for case in test.get("missing") or ():
            by_case.setdefault((case["modality"] or ALL, float(case["rate"])), []).append(case)
    results = []
    for (modality, rate), cases in by_case.items():
        for metric in cases[0].keys() - {"modality", "rate", "missing"}:
            values = [float(case[metric]) for case in cases]
            one, share = records[0], float(cases[0]["missing"])
            arm = (one.dataset, protocol, one.method)
            results.append(
                Robustness(*arm, modality, rate, share, metric, sum(values) / len(values), sd_of(values), len(values))
            )
    return sorted(results, key=lambda r: (r.modality == ALL, r.metric))


def as_csv(results: Sequence[Robustness]) -> str:
    """Return the results as CSV, a line for each arm, modality, rate and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in results:
        writer.writerow(["" if getattr(r, name) is None else getattr(r, name) for name in COLUMNS])
    return text.getvalue()
