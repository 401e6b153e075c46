"""What the records and the sealed evaluations of one arm say, before the arm is compared with others."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.errors import UserError
from balance_tune.studies.protocol.selection import Candidate, Rule, candidates, confirmed, winner
from balance_tune.studies.results.statistics import Floats, Interval, bootstrap_mean
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import BY_MODALITY, Objective


@dataclass
class ArmResults:
    """The results of one arm under one protocol.

    Attributes:
        point: the candidate that selection chose; None while nothing is chosen.
        tests: seed -> sealed metrics of the chosen candidate.
        default_tests: seed -> sealed metrics of the default.
        by_row: seed -> a value per test row (rows,), whose mean is the metric; empty where the metric is no such mean.
        groups: the group of each test row; None for independent rows.
        metric: the test metric that is reported.
    """

    protocol: str
    dataset: str
    method: str
    records: list[TrialRecord]
    point: Candidate | None = None
    tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    default_tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    by_row: dict[int, Floats] = field(default_factory=dict)
    groups: list[int] | None = None
    metric: Objective = Objective("accuracy")

    @classmethod
    def of(cls, records: list[TrialRecord], rule: Rule, protocol: str, folder: Path) -> ArmResults:
        """Return the results of the arm that `records` are all of; `folder` is the study's."""
        arm = cls(protocol, records[0].dataset, records[0].method, records, winner(records, rule))
        default = next((c for c in candidates(records, rule) if c.default), None)
        if default is not None:  # where it won, it has as many seeds as every winner
            seeds = None if arm.point and arm.point.default else rule.default_seeds
            arm.default_tests = _tests(confirmed(records, rule, default, seeds), folder)
        if arm.point is not None:
            arm.tests = _tests(confirmed(records, rule, arm.point), folder)
        arm.groups = next((test["groups"] for test in arm.tests.values() if test.get("groups")), None)
        wanted = rule.objective.split("/", 1)[-1]
        if wanted not in ("loss", "gap") and arm.tests and all(wanted in test for test in arm.tests.values()):
            arm.metric = Objective(wanted)
        rows = {seed: _by_row(test, arm.metric) for seed, test in arm.tests.items()}
        arm.by_row = {seed: values for seed, values in rows.items() if values is not None}
        return arm

    def scores(self) -> dict[int, float]:
        """Return seed -> test score of the chosen candidate."""
        return self._scores(self.tests)

    def default_scores(self) -> dict[int, float]:
        """Return seed -> test score of the default."""
        return self._scores(self.default_tests)

    def _scores(self, tests: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
        return {seed: float(test[self.metric]) for seed, test in tests.items() if test.get(self.metric) is not None}

    def test_interval(self, baseline: ArmResults | None = None) -> Interval | None:
        """Return the bootstrap interval over test rows of the mean score, or of its difference to a baseline."""
        seeds = self.by_row.keys() if baseline is None else self.by_row.keys() & baseline.by_row.keys()
        if not seeds:
            return None
        values = [self.by_row[s] if baseline is None else self.by_row[s] - baseline.by_row[s] for s in sorted(seeds)]
        return bootstrap_mean(np.mean(values, axis=0), self.groups)

    def by_modality(self) -> dict[str, float] | None:
        """Return modality -> mean test score of its own answers; None where an evaluation tells none."""
        scores: dict[str, list[float]] = {}
        for test in self.tests.values():
            for name, value in test.items():
                metric, _, modality = name.partition("/")
                if modality and metric in BY_MODALITY.values():
                    scores.setdefault(modality, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in scores.items()} or None

    def test_rows(self) -> int | None:
        """Return the number of test rows; None while no evaluation is there."""
        return max((int(test["n"]) for test in self.tests.values() if "n" in test), default=None)


def _tests(records: Sequence[TrialRecord], folder: Path) -> dict[int, dict[str, Any]]:
    """Return seed -> sealed evaluation of those of the confirmation trials that have one."""
    complete = [r for r in records if r.state == "complete"]
    return {r.seed or 0: test for r in complete if (test := _sealed(r, folder))}


def _sealed(record: TrialRecord, folder: Path) -> dict[str, Any]:
    """Return the sealed evaluation of a confirmation trial; empty where it was not (or not yet) made."""
    path = folder / str(record.attrs.get("folder", "")) / "test.json"
    stored: dict[str, Any] = {}
    if record.attrs.get("folder") and path.is_file():
        try:
            stored = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"`{path}` must be JSON, but: {error}; remove it and run the study again.") from error
    return {**stored, **(record.attrs.get("test") or {})}


def _by_row(test: Mapping[str, Any], metric: str) -> Floats | None:
    """Return the hits, or errors, row by row (rows,) of a sealed evaluation, where their mean is the metric."""
    if metric == "accuracy" and "correct" in test:
        packed = np.frombuffer(base64.b64decode(test["correct"]), dtype=np.uint8)
        return np.unpackbits(packed, count=int(test["n"])).astype(np.float64)
    if metric == "mae" and "errors" in test:
        return np.frombuffer(base64.b64decode(test["errors"]), dtype="<f4").astype(np.float64)
    return None
