"""One row an arm, from a study's records: what it spent, what validation chose, what the sealed test says."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Candidate, Rule, candidates, confirmed, selected, settled, winner
from balance_tune.studies.results.statistics import (
    Floats,
    bootstrap_mean,
    holm,
    mean_of,
    paired_t,
    sd_of,
    smallest_detectable,
)
from balance_tune.studies.storage.records import TrialRecord, lower_is_better, read_records
from balance_tune.tasks import BY_MODALITY

Row = dict[str, Any]

BASELINE = "joint"
DIAGNOSTIC = "unimodal"  # arms that tell what one modality can do alone: shown, but no rival of the baseline
ALPHA = 0.05


def build(study_folder: Path | str) -> list[Row]:
    """Return a study's leaderboard, finished or not: a JSON-able dict an arm, in an order that owes the test nothing.

    Accuracies and differences are fractions; what is not known yet, or cannot be known, is None. A row holds
    `dataset method trials complete pruned failed epochs device_seconds val params seeds test_mean test_sd test_ci
    default_test_mean delta delta_ci p_value test_by_modality` (the first eight tell the search), and then:

    - `p_holm`: `p_value` corrected for all balancing methods of the dataset; `n`: seeds the difference is paired on;
      `n_failed`: confirmation seeds that failed; `delta_sd`; `delta_test_ci`: bootstrap over test rows, as `test_ci`;
    - `mde`, `mde_holm`: smallest true difference found with 80 % power at 5 %, and at Holm's strictest step;
    - `tuning_gain`, `tuning_gain_ci`: chosen point minus default on their common seeds; `default_won`;
    - `search_val`, `val_confirm`, `gap`: best value of the search, mean objective and modality gap of the confirmation;
    - `saved`: share of the search's epochs that early stopping saved; `lost`: processes that died, `preempted`: nodes
      that were taken away, `repeated`: epochs trained again after either; they count in no budget;
    - `confirm_trials confirm_epochs confirm_device_seconds`: what selection and confirmation took;
    - `arm`, `metric`, `objective`, `protocol` ("sealed" | "paper"), `baseline`, `diagnostic`, `confirmed` (nothing is
      due any more), `chosen` (best of its dataset by validation), `test_rows`, `test_groups` (0: independent rows).

    Raises:
        UserError: there is no study in this folder.
    """
    folder = Path(study_folder)
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    return rows_of(read_records(folder), config, folder)


def rows_of(records: Sequence[TrialRecord], config: Mapping[str, Any], folder: Path) -> list[Row]:
    """Return the rows of records already read; `folder` is where the trials' `test.json` lie."""
    rule = Rule.of(config)
    arms: dict[tuple[str, str], list[TrialRecord]] = {}
    for r in records:
        protocol = str(r.attrs.get("protocol") or config.get("protocol") or "sealed")
        arms.setdefault((r.arm, protocol), []).append(r)
    summaries = [_summarise(own, rule, protocol, folder) for (_, protocol), own in arms.items()]
    tables: dict[tuple[str, str], list[_Arm]] = {}
    for s in summaries:
        tables.setdefault((s.protocol, s.dataset), []).append(s)
    order = {name: i for i, name in enumerate(config.get("datasets") or [])}
    rows: list[Row] = []
    for key in sorted(tables, key=lambda k: (k[0] != "sealed", order.get(k[1], len(order)))):
        rows += _table(tables[key], rule)
    return rows


@dataclass
class _Arm:
    """What an arm's records say, before it is compared with others."""

    protocol: str
    dataset: str
    method: str
    records: list[TrialRecord]
    point: Candidate | None = None
    default: Candidate | None = None
    tests: dict[int, dict[str, Any]] = field(default_factory=dict)  # seed -> sealed metrics of the winner
    default_tests: dict[int, dict[str, Any]] = field(default_factory=dict)
    by_row: dict[int, Floats] = field(default_factory=dict)  # seed -> what the mean over rows is the metric (rows,)
    groups: list[int] | None = None
    metric: str = "accuracy"

    def scores(self, default: bool = False) -> dict[int, float]:
        tests = self.default_tests if default else self.tests
        return {seed: float(t[self.metric]) for seed, t in tests.items() if t.get(self.metric) is not None}


def _summarise(records: list[TrialRecord], rule: Rule, protocol: str, folder: Path) -> _Arm:
    arm = _Arm(protocol, records[0].dataset, records[0].method, records)
    arm.point = winner(records, rule)
    arm.default = next((p for p in candidates(records, rule) if p.default), None)
    if arm.default:
        default_seeds = None if arm.point and arm.point.default else rule.default_seeds
        for r in confirmed(records, rule, arm.default, default_seeds):
            if r.state == "complete" and (test := _sealed(r, folder)):
                arm.default_tests[r.seed or 0] = test
    if arm.point:
        for r in confirmed(records, rule, arm.point):
            if r.state == "complete" and (test := _sealed(r, folder)):
                arm.tests[r.seed or 0] = test
                arm.groups = test.get("groups")
    wanted = rule.objective.split("/", 1)[-1]
    if wanted not in ("loss", "gap") and arm.tests and all(wanted in t for t in arm.tests.values()):
        arm.metric = wanted
    arm.by_row = {seed: values for seed, t in arm.tests.items() if (values := _by_row(t, arm.metric)) is not None}
    return arm


def _by_row(test: Mapping[str, Any], metric: str) -> Floats | None:
    """Return a sealed evaluation's hits, or errors, row by row (rows,), where their mean is the metric."""
    if metric == "accuracy" and "correct" in test:
        packed = np.frombuffer(base64.b64decode(test["correct"]), dtype=np.uint8)
        return np.unpackbits(packed, count=int(test["n"])).astype(np.float64)
    if metric == "mae" and "errors" in test:
        return np.frombuffer(base64.b64decode(test["errors"]), dtype="<f4").astype(np.float64)
    return None


def _sealed(record: TrialRecord, folder: Path) -> dict[str, Any]:
    """Return the sealed evaluation of a confirm trial; empty where it was not (or not yet) made."""
    path = folder / str(record.attrs.get("folder", "")) / "test.json"
    stored: dict[str, Any] = {}
    if record.attrs.get("folder") and path.is_file():
        try:
            stored = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"`{path}` must be JSON, but: {error}; remove it and run the study again.") from error
    return {**stored, **(record.attrs.get("test") or {})}


def _table(arms: list[_Arm], rule: Rule) -> list[Row]:
    """Return the rows of one dataset under one protocol, compared with its tuned joint baseline."""
    baseline = next((a for a in arms if a.method == BASELINE), None)
    rows = [_row(arm, baseline, rule) for arm in arms]
    family = [row for row in rows if not row["baseline"] and not row["diagnostic"]]
    # A method without a p-value (yet) counts as 1: what is significant while others are missing stays so.
    adjusted = holm([1.0 if row["p_value"] is None else row["p_value"] for row in family])
    for row, p in zip(family, adjusted, strict=True):
        row["p_holm"] = None if row["p_value"] is None else float(p)
    for row in rows:
        if row["delta_sd"] is not None:
            row["mde"] = smallest_detectable(row["delta_sd"], row["n"])
            row["mde_holm"] = smallest_detectable(row["delta_sd"], row["n"], alpha=ALPHA / max(len(family), 1))

    def standing(row: Row) -> tuple[bool, bool, float]:
        known = [row["val_confirm"], row["val"], row["search_val"]]
        value = next((v for v in known if v is not None), None)
        return row["diagnostic"], row["val_confirm"] is None, -rule.better(value) if value is not None else float("inf")

    rows.sort(key=standing)
    open_to_choice = [row for row in rows if row["val_confirm"] is not None and not row["diagnostic"]]
    if open_to_choice:
        open_to_choice[0]["chosen"] = True
    return rows


def _row(arm: _Arm, baseline: _Arm | None, rule: Rule) -> Row:
    search = [r for r in arm.records if r.phase == "search" and r.finished and not r.superseded]
    later = [r for r in arm.records if r.phase != "search" and r.finished and not r.superseded]
    trained = confirmed(arm.records, rule, arm.point) if arm.point else []
    done = [r for r in trained if r.state == "complete"]
    scores, default_scores = arm.scores(), arm.scores(default=True)
    epochs = sum(r.epochs for r in search)
    values = [r.value for r in search if r.state == "complete" and r.value is not None]
    compared = baseline is not None and baseline is not arm
    delta = paired_t(_differences(scores, baseline.scores())) if baseline and compared else paired_t([])
    gain = paired_t(_differences(scores, default_scores)) if arm.point and not arm.point.default else paired_t([])
    state = {name: sum(r.state == name for r in search) for name in ("complete", "pruned", "failed")}
    return {
        "dataset": arm.dataset,
        "method": arm.method,
        "trials": len(search),
        **state,
        "epochs": epochs,
        "device_seconds": round(sum(r.device_seconds for r in search), 3),
        "val": mean_of(_values(selected(arm.records, rule, arm.point))) if arm.point else None,
        "params": dict(arm.point.params) if arm.point else None,
        "seeds": sorted(scores),
        "test_mean": mean_of(list(scores.values())),
        "test_sd": sd_of(list(scores.values())),
        "test_ci": _test_interval(arm, None),
        "default_test_mean": mean_of(list(default_scores.values())),
        "delta": delta.mean,
        "delta_ci": list(delta.ci) if delta.ci else None,
        "p_value": delta.p,
        "test_by_modality": _by_modality(arm),
        "p_holm": None,
        "n": delta.n,
        "n_failed": sum(r.state != "complete" for r in trained),
        "delta_sd": delta.sd,
        "delta_test_ci": _test_interval(arm, baseline) if compared else None,
        "mde": None,
        "mde_holm": None,
        "tuning_gain": gain.mean,
        "tuning_gain_ci": list(gain.ci) if gain.ci else None,
        "default_won": arm.point.default if arm.point else None,
        "search_val": (min if lower_is_better(rule.objective) else max)(values) if values else None,
        "val_confirm": mean_of(_values(done)),
        "gap": mean_of([float(m["val/gap"]) for r in done if "val/gap" in (m := r.attrs.get("metrics") or {})]),
        "saved": _saved(search),
        "lost": sum(r.superseded for r in arm.records) + sum(int(r.attrs.get("lost") or 0) for r in arm.records),
        "preempted": sum(int(r.attrs.get("preempted") or 0) for r in arm.records),
        "repeated": sum(int(r.attrs.get("repeated") or 0) for r in arm.records),
        "confirm_trials": len(later),
        "confirm_epochs": sum(r.epochs for r in later),
        "confirm_device_seconds": round(sum(r.device_seconds for r in later), 3),
        "arm": f"{arm.dataset}/{arm.method}",
        "metric": arm.metric,
        "objective": rule.objective,
        "protocol": arm.protocol,
        "baseline": arm.method == BASELINE,
        "diagnostic": arm.method.split("-")[0] == DIAGNOSTIC,
        "confirmed": bool(search) and bool(scores) and settled(arm.records, rule),
        "chosen": False,
        "test_rows": max((int(t["n"]) for t in arm.tests.values() if "n" in t), default=None),
        "test_groups": len(set(arm.groups)) if arm.groups else 0,
    }


def _values(records: list[TrialRecord]) -> list[float]:
    return [r.value for r in records if r.state == "complete" and r.value is not None]


def _differences(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _test_interval(arm: _Arm, baseline: _Arm | None) -> list[float] | None:
    """Return the bootstrap interval over test rows of the arm's mean score, or of its difference to the baseline."""
    ours = arm.by_row
    if not ours:
        return None
    if baseline is None:
        hits = np.mean(list(ours.values()), axis=0)
    else:
        common = sorted(ours.keys() & baseline.by_row.keys())
        if not common:
            return None
        hits = np.mean([ours[s] - baseline.by_row[s] for s in common], axis=0)
    interval = bootstrap_mean(hits, arm.groups)
    return list(interval) if interval else None


def _by_modality(arm: _Arm) -> dict[str, float] | None:
    found: dict[str, list[float]] = {}
    for test in arm.tests.values():
        for name, value in test.items():
            metric, _, modality = name.partition("/")
            if modality and metric in BY_MODALITY.values():
                found.setdefault(modality, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()} or None


def _saved(search: list[TrialRecord]) -> float | None:
    """Return the share of epochs that stopped trials left untrained; failed trials saved nothing, they broke."""
    full = max((r.epochs for r in search if r.state == "complete"), default=0)
    planned = sum(full if r.state == "pruned" else r.epochs for r in search)
    return sum(full - r.epochs for r in search if r.state == "pruned") / planned if planned else None
