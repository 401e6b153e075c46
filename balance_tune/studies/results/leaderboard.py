"""The leaderboard: one row per arm. A new column is a field of `LeaderboardRow` here and its value in `_row`.

The terminal table, Markdown, CSV, JSON, the report, MLflow and docs/protocol.md all read the columns from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Rule, confirmed, failures, selected, settled
from balance_tune.studies.results.arm_results import ArmResults
from balance_tune.studies.results.columns import (
    BY_MODALITY,
    COUNT,
    DIFFERENCE,
    INTERVAL,
    PROBABILITY,
    RANGE,
    SCORE,
    SECONDS,
    SEEDS,
    SETTINGS,
    SHARE,
    TEXT,
    VALIDATION,
    YES_NO,
    Column,
    column,
)
from balance_tune.studies.results.statistics import Interval, holm, mean_of, paired_t, sd_of, smallest_detectable
from balance_tune.studies.storage.records import TrialRecord, read_records
from balance_tune.tasks import Objective

BASELINE = "joint"
DIAGNOSTIC = "unimodal"  # arms that tell what one modality can do alone: shown, but no rival of the baseline
ALPHA = 0.05
NAME = 20  # characters of the longest method name that the table shows whole


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """What a study knows of one arm. Shares and their differences are fractions; None is unknown, or not known yet."""

    dataset: str = column("The dataset.", TEXT, "")
    method: str = column("The method, with its variant.", TEXT, "", header="method", cell=lambda row: row.short_name)
    trials: int = column("Search trials that have ended.", COUNT, 0, mlflow=True)
    complete: int = column(
        "Search trials that ran to their end.", COUNT, 0, header="c+p+f", mlflow=True,
        cell=lambda row: f"{row.complete}+{row.pruned}+{row.failed}",
    )  # fmt: skip
    pruned: int = column("Search trials that early stopping ended.", COUNT, 0, mlflow=True)
    failed: int = column("Search trials that failed.", COUNT, 0, mlflow=True)
    epochs: int = column("Epochs that the search trained.", COUNT, 0, header="epochs", mlflow=True)
    device_seconds: float = column("Device time of the search.", SECONDS, 0.0, mlflow=True)
    val: float | None = column("Mean objective of the chosen point on the selection seeds.", VALIDATION, mlflow=True)
    params: Mapping[str, Any] | None = column("Hyperparameters of the chosen point.", SETTINGS)
    seeds: tuple[int, ...] = column("Confirmation seeds with a test score.", SEEDS, ())
    test_mean: float | None = column(
        "Mean test score over the confirmation seeds.", SCORE, header="test", mlflow=True,
        cell=lambda row: row.metric.text(row.test_mean) + row.spread,
    )  # fmt: skip
    test_sd: float | None = column(
        "Standard deviation of the test score over the confirmation seeds.", SCORE, mlflow=True
    )
    test_ci: Interval | None = column(
        "95 % bootstrap interval of `test_mean` over test rows, over groups where rows have groups.", RANGE
    )
    default_test_mean: float | None = column(
        "Mean test score of the method's default point.", SCORE, header="default", mlflow=True
    )
    delta: float | None = column(
        "Mean difference of the test score to the tuned joint baseline, paired by seed.", DIFFERENCE, header="to joint",
        cell=lambda row: "baseline" if row.baseline else row.metric.difference(row.delta), mlflow=True,
    )  # fmt: skip
    delta_ci: Interval | None = column("95 % t interval of `delta`.", INTERVAL, header="95 % interval")
    p_value: float | None = column("Two-sided p-value of `delta` in the paired t test.", PROBABILITY, mlflow=True)
    test_by_modality: Mapping[str, float] | None = column(
        "Mean test score of each modality's own answers.", BY_MODALITY
    )
    p_holm: float | None = column(
        "`p_value` with Holm's correction for the methods of the dataset.", PROBABILITY, header="p Holm", mlflow=True
    )
    n: int = column("Seeds that `delta` is paired on.", COUNT, 0)
    n_failed: int = column("Confirmation seeds that failed.", COUNT, 0)
    delta_sd: float | None = column("Standard deviation of the paired differences.", SCORE)
    delta_test_ci: Interval | None = column("95 % bootstrap interval of `delta` over test rows.", INTERVAL)
    mde: float | None = column("Smallest true difference that the design finds with 80 % power.", SCORE, mlflow=True)
    mde_holm: float | None = column("`mde` at the strictest step of Holm's correction, as reports state it.", SCORE)
    tuning_gain: float | None = column(
        "Mean test score of the chosen point minus that of the default, on their common seeds.", DIFFERENCE, mlflow=True
    )
    tuning_gain_ci: Interval | None = column("95 % t interval of `tuning_gain`.", INTERVAL)
    default_won: bool | None = column("Whether the chosen point is the default.", YES_NO)
    search_val: float | None = column("Best objective of a completed search trial.", VALIDATION, mlflow=True)
    val_confirm: float | None = column(
        "Mean objective over the confirmation seeds, by which rows are ordered.", VALIDATION, header="val", mlflow=True,
        cell=lambda row: row.objective.text(row.validation),
    )  # fmt: skip
    gap: float | None = column("Mean gap between the best and the worst modality on validation.", SHARE, mlflow=True)
    saved: float | None = column(
        "Share of the search's epochs that early stopping left untrained.", SHARE, header="saved", mlflow=True
    )
    lost: int = column("Times that a trial's process died; they count in no budget.", COUNT, 0)
    preempted: int = column("Times that a trial's node was taken away; they count in no budget.", COUNT, 0)
    repeated: int = column("Epochs trained again after a lost process or node; they count in no budget.", COUNT, 0)
    confirm_trials: int = column("Selection and confirmation trials that have ended.", COUNT, 0)
    confirm_epochs: int = column("Epochs that selection and confirmation trained.", COUNT, 0)
    confirm_device_seconds: float = column("Device time of selection and confirmation.", SECONDS, 0.0)
    arm: str = column("Dataset and method, the arm's name.", TEXT, "")
    metric: Objective = column("The test metric.", TEXT, Objective("accuracy"))
    objective: Objective = column("The validation metric that decides.", TEXT, Objective("val/accuracy"))
    protocol: str = column('"sealed", or "paper" where the test rows decided.', TEXT, "sealed")
    baseline: bool = column("Whether this is the joint baseline.", YES_NO, False)
    diagnostic: bool = column("Whether the arm only shows what one modality can do.", YES_NO, False)
    confirmed: bool = column("Whether every selection and confirmation trial has ended.", YES_NO, False)
    chosen: bool = column("Whether this is the dataset's best method by validation.", YES_NO, False)
    test_rows: int | None = column("Test rows.", COUNT)
    test_groups: int = column("Groups of test rows; 0 where rows are independent.", COUNT, 0)
    failure: str | None = column("Why the arm has nothing to compare, where its trials failed.", TEXT)

    def keys(self) -> list[str]:
        """Return the names of the columns in the order of JSON and CSV; `dict(row)` is the row as JSON-able values."""
        return list(COLUMNS)

    def __getitem__(self, name: str) -> Any:
        """Return the value of the column `name`."""
        if name not in COLUMNS:
            raise KeyError(name)
        return getattr(self, name)

    def mlflow_metrics(self) -> dict[str, float]:
        """Return what MLflow shows of the row below `leaderboard/`: metric name -> value, known values only."""
        values = {name: self[name] for name, c in COLUMNS.items() if c.mlflow}
        values |= {f"test_mean/{modality}": value for modality, value in (self.test_by_modality or {}).items()}
        return {name: float(value) for name, value in values.items() if value is not None}

    @property
    def rival(self) -> bool:
        """Whether the row is a balancing method, which is compared with the baseline."""
        return not self.baseline and not self.diagnostic

    @property
    def validation(self) -> float | None:
        """The validation objective as far as the study has got: of confirmation, else of selection, else of search."""
        return next((v for v in (self.val_confirm, self.val, self.search_val) if v is not None), None)

    @property
    def spread(self) -> str:
        """The standard deviation of the test score as tables write it behind the mean."""
        return "" if self.test_sd is None else f" ±{self.metric.text(self.test_sd)}"

    @property
    def short_name(self) -> str:
        """The method's name as tables show it: cut where it is long, with a star where it was chosen."""
        name = self.method if len(self.method) <= NAME else self.method[: NAME - 1] + "…"
        return name + (" *" if self.chosen else "")


COLUMNS: dict[str, Column] = {f.name: Column(f.name, **f.metadata) for f in dataclasses.fields(LeaderboardRow)}
"""Every column by name, in the order of JSON and CSV."""

TABLE: tuple[Column, ...] = tuple(
    COLUMNS[name]
    for name in (
        *("method", "val_confirm", "test_mean", "delta", "delta_ci", "p_holm", "default_test_mean"),
        *("complete", "epochs", "saved"),
    )
)
"""The columns of the tables for terminals and Markdown; the last ones are left out where a terminal is too narrow."""


def build(study_folder: Path | str) -> list[LeaderboardRow]:
    """Return a study's leaderboard, finished or not: a row per arm, in an order that test scores do not influence.

    Raises:
        UserError: there is no study in this folder.
    """
    folder = Path(study_folder)
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    return rows_of(read_records(folder), config, folder)


def rows_of(records: Sequence[TrialRecord], config: Mapping[str, Any], folder: Path) -> list[LeaderboardRow]:
    """Return the rows of records already read; `folder` is where the trials' `test.json` lie."""
    rule = Rule.of(config)
    by_arm: dict[tuple[str, str], list[TrialRecord]] = {}
    for r in records:
        protocol = str(r.attrs.get("protocol") or config.get("protocol") or "sealed")
        by_arm.setdefault((r.arm, protocol), []).append(r)
    tables: dict[tuple[str, str], list[ArmResults]] = {}
    for (_, protocol), own in by_arm.items():
        arm = ArmResults.of(own, rule, protocol, folder)
        tables.setdefault((protocol, arm.dataset), []).append(arm)
    order = {name: i for i, name in enumerate(config.get("datasets") or [])}
    keys = sorted(tables, key=lambda k: (k[0] != "sealed", order.get(k[1], len(order))))
    reasons = failures(records, config)
    rows = [row for key in keys for row in _table(tables[key], rule)]
    return [dataclasses.replace(row, failure=reasons.get(row.arm)) for row in rows] if reasons else rows


def _table(arms: list[ArmResults], rule: Rule) -> list[LeaderboardRow]:
    """Return the rows of one dataset under one protocol, compared with its tuned joint baseline."""
    baseline = next((arm for arm in arms if arm.method == BASELINE), None)
    rows = [_row(arm, baseline, rule) for arm in arms]
    family = [row for row in rows if row.rival]
    # A method without a p-value (yet) counts as 1: what is significant while others are missing stays so.
    adjusted = holm([1.0 if row.p_value is None else row.p_value for row in family])
    p_holm = {row.arm: float(p) for row, p in zip(family, adjusted, strict=True) if row.p_value is not None}
    strictest = ALPHA / max(len(family), 1)
    rows = [
        dataclasses.replace(
            row,
            p_holm=p_holm.get(row.arm),
            mde=None if row.delta_sd is None else smallest_detectable(row.delta_sd, row.n),
            mde_holm=None if row.delta_sd is None else smallest_detectable(row.delta_sd, row.n, alpha=strictest),
        )
        for row in rows
    ]

    def standing(row: LeaderboardRow) -> tuple[bool, bool, float]:
        gain = float("-inf") if row.validation is None else rule.objective.gain(row.validation)
        return row.diagnostic, row.val_confirm is None, -gain

    rows.sort(key=standing)
    best = next((row for row in rows if row.val_confirm is not None and not row.diagnostic), None)
    return [dataclasses.replace(row, chosen=row is best) for row in rows]


def _row(arm: ArmResults, baseline: ArmResults | None, rule: Rule) -> LeaderboardRow:
    """Return the row of an arm, but for what depends on the other rows of its table."""
    ended = [r for r in arm.records if r.finished and not r.superseded]
    search = [r for r in ended if r.phase == "search"]
    later = [r for r in ended if r.phase != "search"]
    trained = confirmed(arm.records, rule, arm.point) if arm.point else []
    complete = [r for r in trained if r.state == "complete"]
    scores, default_scores = arm.scores(), arm.default_scores()
    rival = baseline if baseline is not arm else None
    delta = paired_t(_differences(scores, rival.scores()) if rival else [])
    gain = paired_t(_differences(scores, default_scores) if arm.point and not arm.point.default else [])

    def counted(name: str) -> int:
        return sum(int(r.attrs.get(name) or 0) for r in arm.records)

    return LeaderboardRow(
        dataset=arm.dataset,
        method=arm.method,
        trials=len(search),
        complete=sum(r.state == "complete" for r in search),
        pruned=sum(r.state == "pruned" for r in search),
        failed=sum(r.state == "failed" for r in search),
        epochs=sum(r.epochs for r in search),
        device_seconds=round(sum(r.device_seconds for r in search), 3),
        val=mean_of(_values(selected(arm.records, rule, arm.point))) if arm.point else None,
        params=dict(arm.point.params) if arm.point else None,
        seeds=tuple(sorted(scores)),
        test_mean=mean_of(list(scores.values())),
        test_sd=sd_of(list(scores.values())),
        test_ci=arm.test_interval(),
        default_test_mean=mean_of(list(default_scores.values())),
        delta=delta.mean,
        delta_ci=delta.ci,
        p_value=delta.p,
        test_by_modality=arm.by_modality(),
        n=delta.n,
        n_failed=sum(r.state != "complete" for r in trained),
        delta_sd=delta.sd,
        delta_test_ci=arm.test_interval(rival) if rival else None,
        tuning_gain=gain.mean,
        tuning_gain_ci=gain.ci,
        default_won=arm.point.default if arm.point else None,
        search_val=rule.objective.best(_values(search)),
        val_confirm=mean_of(_values(complete)),
        gap=mean_of([float(m["val/gap"]) for r in complete if "val/gap" in (m := r.attrs.get("metrics") or {})]),
        saved=_saved(search),
        lost=sum(r.superseded and not r.retried for r in arm.records) + counted("lost"),
        preempted=counted("preempted"),
        repeated=counted("repeated"),
        confirm_trials=len(later),
        confirm_epochs=sum(r.epochs for r in later),
        confirm_device_seconds=round(sum(r.device_seconds for r in later), 3),
        arm=f"{arm.dataset}/{arm.method}",
        metric=arm.metric,
        objective=rule.objective,
        protocol=arm.protocol,
        baseline=arm.method == BASELINE,
        diagnostic=arm.method.split("-")[0] == DIAGNOSTIC,
        confirmed=bool(search) and bool(scores) and settled(arm.records, rule),
        test_rows=arm.test_rows(),
        test_groups=len(set(arm.groups or ())),
    )


def _values(records: Iterable[TrialRecord]) -> list[float]:
    return [r.value for r in records if r.state == "complete" and r.value is not None]


def _differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _saved(search: Sequence[TrialRecord]) -> float | None:
    """Return the share of epochs that pruned trials left untrained; failed trials saved nothing, they broke."""
    full = max((r.epochs for r in search if r.state == "complete"), default=0)
    planned = sum(full if r.state == "pruned" else r.epochs for r in search)
    return sum(full - r.epochs for r in search if r.state == "pruned") / planned if planned else None
