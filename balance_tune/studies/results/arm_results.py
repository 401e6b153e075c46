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
from balance_tune.studies.config.study_method import StudyMethod
from balance_tune.studies.protocol.selection import Candidate, Rule, candidates, confirmed, winner
from balance_tune.studies.results.inference import Runs, pseudo_values
from balance_tune.studies.results.statistics import Floats
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import BY_MODALITY, Objective


@dataclass
class ArmResults:
    """The results of one arm under one protocol.

    Attributes:
        point: the candidate that selection chose; None while nothing is chosen.
        tests: seed -> sealed metrics of the chosen candidate.
        default_tests: seed -> sealed metrics of the default.
        failed: seeds whose confirmation trial of the chosen candidate failed; `default_failed`: the default's.
        groups: the group of each test row; None for independent rows.
        metric: the test metric that is reported.
        entry: what the study file says of it; None where that is not known.
    """

    protocol: str
    dataset: str
    method: str
    records: list[TrialRecord]
    point: Candidate | None = None
    tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    default_tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    default_failed: frozenset[int] = frozenset()
    groups: list[int] | None = None
    metric: Objective = Objective("accuracy")
    entry: StudyMethod | None = None

    @classmethod
    def of(cls, records: list[TrialRecord], rule: Rule, protocol: str, folder: Path) -> ArmResults:
        """Return the results of the arm that `records` are all of; `folder` is the study's."""
        arm = cls(protocol, records[0].dataset, records[0].method, records, winner(records, rule))
        default = next((c for c in candidates(records, rule) if c.default), None)
        if default is not None:  # where it won, it has as many seeds as every winner
            seeds = None if arm.point and arm.point.default else rule.default_seeds
            arm.default_tests, arm.default_failed = _outcomes(confirmed(records, rule, default, seeds), folder)
        if arm.point is not None:
            arm.tests, arm.failed = _outcomes(confirmed(records, rule, arm.point), folder)
        arm.groups = next((test["groups"] for test in arm.tests.values() if test.get("groups")), None)
        wanted = rule.objective.split("/", 1)[-1]
        if wanted not in ("loss", "gap") and arm.tests and all(wanted in test for test in arm.tests.values()):
            arm.metric = Objective(wanted)
        return arm

    def scores(self) -> dict[int, float]:
        """Return seed -> test score of the chosen candidate."""
        return self._scores(self.tests)

    def default_scores(self) -> dict[int, float]:
        """Return seed -> test score of the default."""
        return self._scores(self.default_tests)

    def _scores(self, tests: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
        return {seed: float(test[self.metric]) for seed, test in tests.items() if test.get(self.metric) is not None}

    def runs(self, seeds: Sequence[int], *, default: bool = False) -> Runs:
        """Return the runs of the chosen candidate, or of the default, on `seeds` that have ended, in their order."""
        tests = self.default_tests if default else self.tests
        units = [_units(tests[seed], self.metric) if seed in tests else None for seed in seeds]
        length = next((len(u) for u in units if u is not None), None)
        complete = length is not None and all(u is not None for s, u in zip(seeds, units, strict=True) if s in tests)
        empty = np.full(length or 0, np.nan)
        scores = [float(tests[s][self.metric]) if s in tests else np.nan for s in seeds]
        return Runs(np.array(scores), np.stack([empty if u is None else u for u in units]) if complete else None)

    def ended(self, *, default: bool = False) -> set[int]:
        """Return the seeds on which the chosen candidate, or the default, was evaluated or has failed."""
        return set(self.default_scores() if default else self.scores()) | (
            self.default_failed if default else self.failed
        )

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


def _outcomes(records: Sequence[TrialRecord], folder: Path) -> tuple[dict[int, dict[str, Any]], frozenset[int]]:
    """Return seed -> sealed evaluation of the confirmation trials that have one, and the seeds that failed."""
    tests = {r.seed or 0: test for r in records if r.state == "complete" and (test := _sealed(r, folder))}
    return tests, frozenset(r.seed or 0 for r in records if r.state == "failed")


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


def _units(test: Mapping[str, Any], metric: str) -> Floats | None:
    """Return a metric's values (units,) by row or group, whose mean is the metric; None where the file has none."""
    if metric == "accuracy" and "correct" in test:
        packed = np.frombuffer(base64.b64decode(test["correct"]), dtype=np.uint8)
        return _by_group(np.unpackbits(packed, count=int(test["n"])).astype(np.float64), test.get("groups"))
    if metric == "mae" and "errors" in test:
        errors = np.frombuffer(base64.b64decode(test["errors"]), dtype="<f4").astype(np.float64)
        return _by_group(errors, test.get("groups"))
    values = (test.get("units") or {}).get(metric)
    return None if values is None else np.frombuffer(base64.b64decode(values), dtype="<f4").astype(np.float64)


def _by_group(values: Floats, groups: Sequence[int] | None) -> Floats | None:
    """Return pseudo-values (groups,) of the mean of `values` (rows,); the values themselves where rows are independent.

    One group says nothing of others: None.
    """
    if not groups:
        return values
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if len(sums) < 2:
        return None
    return pseudo_values(float(values.mean()), (sums.sum() - sums) / (sizes.sum() - sizes))
