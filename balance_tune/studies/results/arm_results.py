"""The results of one arm, read from its trials and sealed evaluations, before arms are compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from balance_tune.errors import UserError
from balance_tune.studies.protocol.selection import Candidate, Rule, candidates, cell_failures, confirmed, winner
from balance_tune.studies.results.inference import Runs, pseudo_values
from balance_tune.studies.results.statistics import Floats
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import BY_MODALITY, Objective

if TYPE_CHECKING:
    from balance_tune.studies.config.study_method import StudyMethod


@dataclass
class CellResults:
    """The results of one arm in one replicate.

    Attributes:
        records: all its trials.
        point: the candidate that selection chose; None while nothing is chosen.
        tests: seed -> sealed metrics of the chosen candidate.
        default_tests: seed -> sealed metrics of the default.
        failed: seeds whose confirmation trial of the chosen candidate failed; `default_failed`: the default's.
        seeds: confirmation seeds that the chosen candidate gets; `default_seeds`: those of the default.
        failure: why there is nothing to compare, where its trials failed.
        arm: its name; `replicate`: counted from 0.
    """

    records: list[TrialRecord]
    point: Candidate | None = None
    tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    default_tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    default_failed: frozenset[int] = frozenset()
    seeds: list[int] = field(default_factory=list)
    default_seeds: list[int] = field(default_factory=list)
    failure: str | None = None
    arm: str = ""
    replicate: int = 0

    @classmethod
    def of(cls, records: list[TrialRecord], rule: Rule, folder: Path, failure: str | None = None) -> CellResults:
        """Return the results of the cell that `records` are all of.

        Args:
            records: at least one.
            rule: the study's, of any replicate.
            folder: the study's.
            failure: why the cell has nothing to compare.
        """
        arm, replicate = records[0].arm, records[0].replicate
        rule = rule.at(arm, replicate)
        cell = cls(records, winner(records, rule), failure=failure, arm=arm, replicate=replicate)
        cell.seeds = rule.seeds("confirm")
        cell.default_seeds = cell.seeds[: rule.default_seeds]
        default = next((c for c in candidates(records, rule) if c.default), None)
        if cell.point is not None and cell.point.default:  # it has as many seeds as every winner
            cell.default_seeds = cell.seeds
        if default is not None:
            own = confirmed(records, rule, default, len(cell.default_seeds))
            cell.default_tests, cell.default_failed = _outcomes(own, folder)
        if cell.point is not None:
            cell.tests, cell.failed = _outcomes(confirmed(records, rule, cell.point), folder)
        return cell

    def is_finished(self, *, default: bool = False) -> bool:
        """Return whether each confirmation seed of the chosen candidate, or of the default, was evaluated or failed."""
        if self.failure is not None:
            return True
        tests, failed = (self.default_tests, self.default_failed) if default else (self.tests, self.failed)
        seeds = self.default_seeds if default else self.seeds
        return bool(seeds) and all(seed in tests or seed in failed for seed in seeds)

    def run(self, metric: str, *, default: bool = False, common: bool = False) -> tuple[float, Floats | None] | None:
        """Return the mean score over seeds and the mean value of each test unit (U,); None where a seed failed.

        Args:
            metric: the test metric.
            default: of the default instead of the chosen candidate.
            common: over the seeds that the default has too.
        """
        tests, failed = (self.default_tests, self.default_failed) if default else (self.tests, self.failed)
        seeds = self.default_seeds if default or common else self.seeds
        if self.failure is not None or any(seed in failed for seed in seeds):
            return None
        own = [tests[seed] for seed in seeds if seed in tests and tests[seed].get(metric) is not None]
        if not own:
            return None
        units = [u for test in own if (u := _units(test, metric)) is not None]
        mean = float(np.mean([float(test[metric]) for test in own]))
        return mean, np.mean(units, axis=0) if len(units) == len(own) else None


@dataclass
class ArmResults:
    """The results of one arm under one protocol, over all replicates of the study.

    Arms are compared by their runs. A run of a study of several replicates is the mean over the confirmation seeds of a
    replicate, of a study of one replicate a single confirmation seed. A run is named by its key: the number of the
    replicate, or the position of the seed.

    Attributes:
        cells: the replicates that have begun, in their order.
        replicates: how many the study has.
        groups: the group of each test row; None for independent rows.
        metric: the test metric that is reported.
        entry: its entry in the study file; None where that is not known.
    """

    protocol: str
    dataset: str
    method: str
    cells: list[CellResults]
    replicates: int = 1
    groups: list[int] | None = None
    metric: Objective = Objective("accuracy")
    entry: StudyMethod | None = None

    @classmethod
    def of(
        cls,
        records: list[TrialRecord],
        rule: Rule,
        protocol: str,
        folder: Path,
        replicates: int = 1,
        failures: Mapping[str, str] | None = None,
    ) -> ArmResults:
        """Return the results of the arm that `records` are all of.

        Args:
            records: at least one.
            rule: the study's.
            protocol: under which the trials ran.
            folder: the study's.
            replicates: of the study.
            failures: cell -> why it has nothing to compare.
        """
        by_cell: dict[int, list[TrialRecord]] = {}
        for r in records:
            by_cell.setdefault(r.replicate, []).append(r)
        reasons = failures or {}
        cells = [
            CellResults.of(own, rule, folder, reasons.get(own[0].cell))
            for k, own in sorted(by_cell.items())
            if k < replicates
        ]
        arm = cls(protocol, records[0].dataset, records[0].method, cells, replicates)
        tests = [test for cell in cells for test in cell.tests.values()]
        arm.groups = next((test["groups"] for test in tests if test.get("groups")), None)
        name = rule.objective.split("/", 1)[-1]
        if name not in ("loss", "gap") and tests and all(name in test for test in tests):
            arm.metric = Objective(name)
        return arm

    @property
    def records(self) -> list[TrialRecord]:
        """The trials of all replicates."""
        return [r for cell in self.cells for r in cell.records]

    @property
    def by_seed(self) -> bool:
        """Whether a run is a seed, because there is one replicate only."""
        return self.replicates == 1

    def run_keys(self) -> list[int]:
        """Return the keys of all runs that the study will have: replicates, or positions of seeds."""
        if not self.by_seed:
            return list(range(self.replicates))
        return list(range(len(self.cells[0].seeds) if self.cells else 0))

    def scores(self, *, default: bool = False) -> dict[int, float]:
        """Return key -> test score of the runs of the chosen candidate, or of the default, that ended well."""
        keys = sorted(self.finished_keys(default=default))
        runs = self.runs(keys, default=default)
        return {key: float(score) for key, score in zip(keys, runs.scores, strict=True) if np.isfinite(score)}

    def seeds(self) -> list[int]:
        """Return the confirmation seeds with a test score, of all replicates."""
        return sorted(
            seed for cell in self.cells for seed, test in cell.tests.items() if test.get(self.metric) is not None
        )

    def runs(self, keys: Sequence[int], *, default: bool = False, common: bool = False) -> Runs:
        """Return the runs of the chosen candidate, or of the default, that have these keys, in their order.

        With `common`, a run is over the seeds that the default has too.
        """
        runs: list[tuple[float, Floats | None] | None] = []
        for key in keys:
            if self.by_seed:
                runs.append(self._seed_run(key, default=default))
            else:
                cell = next((cell for cell in self.cells if cell.replicate == key), None)
                runs.append(None if cell is None else cell.run(self.metric, default=default, common=common))
        units = [None if run is None else run[1] for run in runs]
        length = next((len(u) for u in units if u is not None), None)
        complete = length is not None and all(run is None or run[1] is not None for run in runs)
        empty = np.full(length or 0, np.nan)
        scores = [np.nan if run is None else run[0] for run in runs]
        return Runs(np.array(scores), np.stack([empty if u is None else u for u in units]) if complete else None)

    def _seed_run(self, key: int, *, default: bool) -> tuple[float, Floats | None] | None:
        cell = self.cells[0]
        test = (cell.default_tests if default else cell.tests).get(cell.seeds[key])
        return None if test is None else (float(test[self.metric]), _units(test, self.metric))

    def finished_keys(self, *, default: bool = False) -> set[int]:
        """Return the keys of the runs of the chosen candidate, or of the default, that were evaluated or failed."""
        if not self.by_seed:
            return {cell.replicate for cell in self.cells if cell.is_finished(default=default)}
        if not self.cells:
            return set()
        cell = self.cells[0]
        tests, failed = (cell.default_tests, cell.default_failed) if default else (cell.tests, cell.failed)
        ended = {seed for seed, test in tests.items() if test.get(self.metric) is not None} | failed
        return {key for key, seed in enumerate(cell.seeds) if seed in ended}

    def by_modality(self) -> dict[str, float] | None:
        """Return modality -> mean test score of its own answers; None where an evaluation has none."""
        scores: dict[str, list[float]] = {}
        for test in (test for cell in self.cells for test in cell.tests.values()):
            for name, value in test.items():
                metric, _, modality = name.partition("/")
                if modality and metric in BY_MODALITY.values():
                    scores.setdefault(modality, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in scores.items()} or None

    def test_rows(self) -> int | None:
        """Return the number of test rows; None while no evaluation is there."""
        tests = (test for cell in self.cells for test in cell.tests.values())
        return max((int(test["n"]) for test in tests if "n" in test), default=None)


def arms_by_table(
    records: Sequence[TrialRecord], config: Mapping[str, Any], folder: Path
) -> dict[tuple[str, str], list[ArmResults]]:
    """Return (protocol, dataset) -> the results of its arms, in the order of the records.

    Args:
        records: all of a study.
        config: the study file.
        folder: of the study, where the trials' `test.json` lie.
    """
    rule, replicates = Rule.of(config), int(config.get("replicates") or 1)
    reasons = cell_failures(records, config)
    entries = _named_arms(config)
    by_arm: dict[tuple[str, str], list[TrialRecord]] = {}
    for r in records:
        protocol = str(r.attrs.get("protocol") or config.get("protocol") or "sealed")
        by_arm.setdefault((r.arm, protocol), []).append(r)
    tables: dict[tuple[str, str], list[ArmResults]] = {}
    for (_, protocol), own in by_arm.items():
        arm = ArmResults.of(own, rule, protocol, folder, replicates, reasons)
        arm.entry = entries.get(arm.method.partition("-")[0])
        tables.setdefault((protocol, arm.dataset), []).append(arm)
    return tables


def _named_arms(config: Mapping[str, Any]) -> dict[str, StudyMethod]:
    """Return the named arms of a study file."""
    entries = [entry for entry in config.get("methods") or () if not isinstance(entry, str)]
    if not entries:
        return {}
    from balance_tune.studies.config.study_method import StudyMethod  # pydantic takes long to import

    return {entry.name: entry for entry in map(StudyMethod.model_validate, entries)}


def _outcomes(records: Sequence[TrialRecord], folder: Path) -> tuple[dict[int, dict[str, Any]], frozenset[int]]:
    """Return seed -> sealed evaluation of the confirmation trials that have one, and the seeds that failed."""
    tests = {r.seed or 0: test for r in records if r.state == "complete" and (test := _test_metrics(r, folder))}
    return tests, frozenset(r.seed or 0 for r in records if r.state == "failed")


def _test_metrics(record: TrialRecord, folder: Path) -> dict[str, Any]:
    """Return the sealed evaluation of a confirmation trial; empty where it was not (or not yet) made."""
    path = folder / str(record.attrs.get("folder", "")) / "test.json"
    content: dict[str, Any] = {}
    if record.attrs.get("folder") and path.is_file():
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"`{path}` must be JSON, but: {error}; remove it and run the study again.") from error
    return {**content, **(record.attrs.get("test") or {})}


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

    None for a single group, which has no variance.
    """
    if not groups:
        return values
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if len(sums) < 2:
        return None
    return pseudo_values(float(values.mean()), (sums.sum() - sums) / (sizes.sum() - sizes))
