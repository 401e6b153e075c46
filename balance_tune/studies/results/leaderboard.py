"""The leaderboard: one row per arm. A new column is a field of `LeaderboardRow` here and its value in `_row`.

The terminal table, Markdown, CSV, JSON, the report, MLflow and docs/protocol.md all read the columns from here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.keys import BASELINE, PLACEBO
from balance_tune.studies.protocol.recommendation import recommend
from balance_tune.studies.protocol.selection import (
    Rule,
    advantage,
    best_by_selection,
    confirmed,
    failures,
    is_decided,
    selected,
)
from balance_tune.studies.protocol.study_record import families_of, looks_of
from balance_tune.studies.results.arm_results import ArmResults, CellResults, arms_by_table
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
    SHARES,
    TEXT,
    VALIDATION,
    YES_NO,
    Column,
    column,
)
from balance_tune.studies.results.difference import Difference, collapsed_runs, difference
from balance_tune.studies.results.inference import Comparison, Estimate, compare, estimate
from balance_tune.studies.results.statistics import Interval, mean_of, sd_of
from balance_tune.studies.results.verdict import Verdict, interval_level, verdicts
from balance_tune.studies.storage import unsealed
from balance_tune.studies.storage.records import TrialRecord, read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.tasks import Objective

DIAGNOSTICS = ("unimodal", PLACEBO)
"""Arms that are not compared as methods: one modality alone, and a second baseline."""
NAME = 20  # characters of the longest method name that the table shows whole


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """The results of one arm. Shares and their differences are fractions; None is a value that is not known (yet)."""

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
    params: Mapping[str, Any] | None = column(
        "Hyperparameters of the chosen point; of several replicates, of the recommended point.", SETTINGS
    )
    seeds: tuple[int, ...] = column("Confirmation seeds with a test score.", SEEDS, ())
    test_mean: float | None = column(
        "Mean test score over replicates; with one replicate, over its confirmation seeds.", SCORE, header="test",
        mlflow=True,
        cell=lambda row: row.metric.text(row.test_mean) + row.spread,
    )  # fmt: skip
    test_sd: float | None = column(
        "Standard deviation of the test score over replicates; with one replicate, over its confirmation seeds.",
        SCORE,
        mlflow=True,
    )
    test_ci: Interval | None = column("95 % interval of `test_mean` over replicates (or seeds) and test rows.", RANGE)
    default_test_mean: float | None = column(
        "Mean test score of the method's default point.", SCORE, header="default", mlflow=True
    )
    delta: float | None = column(
        "Mean difference of the test score to the tuned joint baseline, paired by replicate (with one replicate, by "
        "seed), without failed and collapsed runs.", DIFFERENCE, header="to joint",
        cell=lambda row: "baseline" if row.baseline else row.metric.difference(row.delta), mlflow=True,
    )  # fmt: skip
    delta_ci: Interval | None = column(
        "95 % interval of `delta` over replicates (or seeds) and test rows, wider after several looks.", INTERVAL,
        header="95 % interval",
    )  # fmt: skip
    p_value: float | None = column(
        "Two-sided p-value of `delta` over replicates (or seeds) and test rows, adjusted for looks.",
        PROBABILITY,
        mlflow=True,
    )
    test_by_modality: Mapping[str, float] | None = column(
        "Mean test score of each modality's own answers.", BY_MODALITY
    )
    replicates: int = column("Replicates of the study.", COUNT, 1)
    splits_redrawn: bool = column(
        "Whether each replicate has its own train, monitor and validation rows.", YES_NO, False
    )
    replicates_done: int = column("Replicates in which every trial of the arm has ended.", COUNT, 0)
    default_kept: int = column("Replicates that chose the default.", COUNT, 0)
    p_holm: float | None = column(
        "`p_value` with Holm's correction for the methods of the dataset.", PROBABILITY, header="p Holm", mlflow=True
    )
    n: int = column("Replicates (or seeds) that `delta` is paired on.", COUNT, 0)
    n_failed: int = column("Confirmation seeds that failed, and replicates with nothing to confirm.", COUNT, 0)
    n_collapsed: int = column("Replicates (or seeds) that ended far below the arm's median.", COUNT, 0)
    outcome: str | None = column('The verdict: "better", "equivalent", "worse" or "undecided".', TEXT)
    blocked: bool = column(
        "Whether `delta` is significant and the verdict fails with failed and collapsed runs.", YES_NO, False
    )
    delta_with_failures: float | None = column(
        "The difference with failed runs scored as the worst and collapsed runs as measured, of the arm that `delta` "
        "favours.", DIFFERENCE,
    )  # fmt: skip
    p_with_failures: float | None = column("`p_holm` of `delta_with_failures`.", PROBABILITY)
    p_equivalence: float | None = column(
        "Holm-corrected p-value of a difference larger than `equivalence`.", PROBABILITY
    )
    p_improvement: float | None = column(
        "Probability that a run is better than a run of the baseline; failed runs are the worst.", SHARE, mlflow=True
    )
    p_improvement_ci: Interval | None = column(
        "95 % bootstrap interval of `p_improvement` over replicates (or seeds).", SHARES
    )
    looks: int = column(
        "Verdicts shown so far, this one included: trials, seeds or replicates were added after each.", COUNT, 1
    )
    delta_sd: float | None = column("Standard deviation of the paired differences.", SCORE)
    row_share: float | None = column("Share of the variance of `delta` that the finite test part causes.", SHARE)
    mde: float | None = column("Smallest true difference that the design finds with 80 % power.", SCORE, mlflow=True)
    mde_holm: float | None = column("`mde` at the strictest step of Holm's correction, as reports state it.", SCORE)
    tuning_gain: float | None = column(
        "Mean test score of the chosen point minus that of the default, on their common seeds; zero where the default "
        "was chosen.",
        DIFFERENCE,
        mlflow=True,
    )
    tuning_gain_ci: Interval | None = column(
        "95 % interval of `tuning_gain` over replicates (or seeds) and test rows.", INTERVAL
    )
    default_won: bool | None = column("Whether the chosen, or recommended, point is the default.", YES_NO)
    advantage: float | None = column(
        "Mean objective of the best point minus that of the default over the selection seeds.", DIFFERENCE
    )
    advantage_error: float | None = column(
        "Standard error of `advantage`; the default stays unless it is ahead by `select.margin` of them.", SCORE
    )
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
    definition: str | None = column("What an arm with a name of its own is: its method and what is set.", TEXT)
    metric: Objective = column("The test metric.", TEXT, Objective("accuracy"))
    objective: Objective = column("The validation metric that decides.", TEXT, Objective("val/accuracy"))
    protocol: str = column('"sealed", or "paper" where the test rows decided.', TEXT, "sealed")
    baseline: bool = column("Whether this is the joint baseline.", YES_NO, False)
    diagnostic: bool = column(
        "Whether the arm is not compared as a method: it shows one modality alone, or is the placebo.", YES_NO, False
    )
    placebo: bool = column("Whether this is the placebo, a second joint arm.", YES_NO, False)
    confirmed: bool = column("Whether every selection and confirmation trial has ended.", YES_NO, False)
    chosen: bool = column("Whether this is the dataset's best method by validation.", YES_NO, False)
    test_rows: int | None = column("Test rows.", COUNT)
    family: str = column("The dataset that this one is a recipe of; its own name where it is none.", TEXT, "")
    openings: int = column("Recorded looks at this test part outside studies, by `evaluate --unseal`.", COUNT, 0)
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
    def contender(self) -> bool:
        """Whether the arm competes for best by validation: it has confirmation results, and is no diagnostic one."""
        return self.val_confirm is not None and not self.diagnostic

    @property
    def holds(self) -> bool:
        """Whether the arm may be chosen: its runs are sound, or it beats the baseline with those that are not."""
        return not (self.n_failed or self.n_collapsed) or self.outcome == "better"

    @property
    def validation(self) -> float | None:
        """The validation objective of the latest phase with results: confirmation, else selection, else search."""
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


def build(study_folder: StudyFolder | Path | str) -> list[LeaderboardRow]:
    """Return a study's leaderboard, finished or not: a row per arm, in an order that test scores do not influence.

    Raises:
        UserError: there is no study in this folder.
    """
    place = StudyFolder(Path(study_folder)) if isinstance(study_folder, str) else StudyFolder.of(study_folder)
    folder = place.path
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    return rows_of(read_records(folder), config, folder, unsealed.looks_below(place.parent))


def rows_of(
    records: Sequence[TrialRecord],
    config: Mapping[str, Any],
    folder: Path,
    openings: Sequence[Mapping[str, Any]] = (),
) -> list[LeaderboardRow]:
    """Return the rows of records already read.

    Args:
        records: all of the study.
        config: the study file.
        folder: of the study, where the trials' `test.json` lie.
        openings: recorded looks at sealed test parts (`storage.unsealed`).
    """
    rule, looks, equivalence = Rule.of(config), looks_of(folder), config.get("equivalence")
    replicates, families = int(config.get("replicates") or 1), families_of(folder)
    tables = arms_by_table(records, config, folder)
    order = {name: i for i, name in enumerate(config.get("datasets") or [])}
    keys = sorted(tables, key=lambda k: (k[0] != "sealed", order.get(k[1], len(order))))
    reasons = failures(records, config)
    rows = [row for key in keys for row in _table(tables[key], rule, looks, equivalence)]
    return [
        dataclasses.replace(
            row,
            failure=reasons.get(row.arm),
            family=families.get(row.dataset, row.dataset),
            openings=_openings(row.dataset, folder, openings),
            splits_redrawn=replicates > 1 and _redrawn(row.dataset, config, folder),
        )
        for row in rows
    ]


def _table(arms: list[ArmResults], rule: Rule, looks: int, equivalence: float | None) -> list[LeaderboardRow]:
    """Return the rows of one dataset under one protocol, compared with its tuned joint baseline."""
    baseline = next((arm for arm in arms if arm.method == BASELINE), None)
    metric = arms[0].metric if baseline is None else baseline.metric
    bad = collapsed_runs(arms)
    level = interval_level(looks)
    rows: list[LeaderboardRow] = []
    comparisons: dict[str, Comparison] = {}
    for arm in arms:
        row = dataclasses.replace(_row(arm, rule), n_collapsed=int(bad[arm.method].sum()), looks=looks)
        if baseline is not None and baseline is not arm:
            to_baseline = difference(arm, baseline, bad, level)
            comparisons[arm.method], row = to_baseline.comparison, _with_difference(row, to_baseline)
        rows.append(row)
    options: dict[str, Any] = {
        "lower": metric.lower_is_better,
        "looks": looks,
        "equivalence": equivalence and (equivalence / 100 if metric.is_share else equivalence),
        "span": metric.span,
    }
    family = [row.method for row in rows if row.rival and row.method in comparisons]
    by_method = dict(zip(family, verdicts([comparisons[m] for m in family], **options), strict=True))
    for row in rows:  # an arm outside the family has a p-value of its own
        if row.diagnostic and row.method in comparisons:
            (alone,) = verdicts([comparisons[row.method]], **options)
            by_method[row.method] = dataclasses.replace(alone, p_holm=None, p_with_failures=None, p_equivalence=None)
    rows = [_with_verdict(row, by_method[row.method]) if row.method in by_method else row for row in rows]

    def rank_key(row: LeaderboardRow) -> tuple[bool, bool, float]:
        gain = float("-inf") if row.validation is None else rule.objective.gain(row.validation)
        return row.diagnostic, row.val_confirm is None, -gain

    rows.sort(key=rank_key)
    contenders = [row for row in rows if row.contender]
    sound = [row for row in contenders if row.holds]
    best = next(iter(sound or contenders), None)
    return [dataclasses.replace(row, chosen=row is best) for row in rows]


def _with_difference(row: LeaderboardRow, difference: Difference) -> LeaderboardRow:
    """Return an arm's row with its difference to the baseline and the chance to be better."""
    delta, chance = difference.comparison.typical, difference.chance
    return dataclasses.replace(
        row,
        n=delta.n,
        delta=delta.mean,
        delta_ci=delta.ci,
        delta_sd=delta.sd,
        row_share=delta.row_share,
        p_improvement=chance and chance[0],
        p_improvement_ci=chance and chance[1],
    )


def _with_verdict(row: LeaderboardRow, verdict: Verdict) -> LeaderboardRow:
    return dataclasses.replace(
        row,
        p_value=verdict.p,
        p_holm=verdict.p_holm,
        p_with_failures=verdict.p_with_failures,
        p_equivalence=verdict.p_equivalence,
        delta_with_failures=verdict.with_failures.mean,
        mde=verdict.mde,
        mde_holm=verdict.mde_holm,
        outcome=verdict.outcome if row.rival else None,
        blocked=verdict.blocked and row.rival,
    )


def _row(arm: ArmResults, rule: Rule) -> LeaderboardRow:
    """Return the row of an arm without anything that depends on other arms."""
    ended = [r for r in arm.records if r.finished and not r.superseded]
    search = [r for r in ended if r.phase == "search"]
    later = [r for r in ended if r.phase != "search"]
    trained = [
        (cell, confirmed(cell.records, rule.at(cell.arm, cell.replicate), cell.point))
        for cell in arm.cells
        if cell.point
    ]
    complete = [[r for r in own if r.state == "complete"] for _, own in trained]
    scores, default_scores = arm.scores(), arm.scores(default=True)
    lead, error = _advantage(arm.cells, rule)
    own, gain = arm.runs(sorted(scores)), _tuning_gain(arm)
    best = recommend({cell.replicate: cell.records for cell in arm.cells}, rule)
    through = [cell for cell in arm.cells if cell.tests and is_decided(cell.records, rule.at(cell.arm, cell.replicate))]

    def total(name: str) -> int:
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
        val=_mean_of_means(
            selected(cell.records, rule.at(cell.arm, cell.replicate), cell.point) for cell in arm.cells if cell.point
        ),
        params=dict(best.point.params) if best else None,
        replicates=arm.replicates,
        replicates_done=len(through),
        default_kept=best.default_kept if best else 0,
        seeds=tuple(arm.seeds()),
        test_mean=mean_of(list(scores.values())),
        test_sd=sd_of(list(scores.values())),
        test_ci=estimate(own.scores, own.units).ci,
        default_test_mean=mean_of(list(default_scores.values())),
        test_by_modality=arm.by_modality(),
        n_failed=sum(r.state != "complete" for _, own in trained for r in own)
        + sum(cell.failure is not None and cell.point is None for cell in arm.cells),
        tuning_gain=gain.mean,
        tuning_gain_ci=gain.ci,
        default_won=best.point.default if best else None,
        advantage=lead,
        advantage_error=error,
        search_val=rule.objective.best(_values(search)),
        val_confirm=_mean_of_means(complete),
        gap=mean_of(
            [float(m["val/gap"]) for own in complete for r in own if "val/gap" in (m := r.attrs.get("metrics") or {})]
        ),
        saved=_share_of_epochs_saved(search),
        lost=sum(r.superseded and not r.retried for r in arm.records) + total("lost"),
        preempted=total("preempted"),
        repeated=total("repeated"),
        confirm_trials=len(later),
        confirm_epochs=sum(r.epochs for r in later),
        confirm_device_seconds=round(sum(r.device_seconds for r in later), 3),
        arm=f"{arm.dataset}/{arm.method}",
        metric=arm.metric,
        objective=rule.objective,
        protocol=arm.protocol,
        baseline=arm.method == BASELINE,
        diagnostic=(arm.entry.method if arm.entry else arm.method.partition("-")[0]) in DIAGNOSTICS,
        placebo=arm.method == PLACEBO,
        definition=arm.entry.description if arm.entry else None,
        confirmed=bool(search) and bool(scores) and len(through) == arm.replicates,
        test_rows=arm.test_rows(),
        test_groups=len(set(arm.groups or ())),
    )


def _values(records: Iterable[TrialRecord]) -> list[float]:
    return [r.value for r in records if r.state == "complete" and r.value is not None]


def _mean_of_means(trials: Iterable[Iterable[TrialRecord]]) -> float | None:
    """Return the mean over replicates of the mean objective of its completed trials."""
    return mean_of([mean for own in trials if (mean := mean_of(_values(own))) is not None])


def _advantage(cells: Sequence[CellResults], rule: Rule) -> tuple[float | None, float | None]:
    """Return how far the best point is ahead of the default on validation, and the standard error of that.

    Of several replicates it is the mean, of those in which a point was ahead.
    """
    leads = []
    for cell in cells:
        own = rule.at(cell.arm, cell.replicate)
        choice = advantage(cell.records, own, best_by_selection(cell.records, own)) if cell.point else None
        if choice is not None:
            leads.append(choice[1])
    if not leads:
        return None, None
    errors = [lead.error for lead in leads if lead.error is not None]
    error = float(np.sqrt(np.sum(np.square(errors)))) / len(leads) if len(errors) == len(leads) else None
    return rule.objective.gain(float(np.mean([lead.mean for lead in leads]))), error


def _redrawn(dataset: str, config: Mapping[str, Any], folder: Path) -> bool:
    """Return whether replicates have splits of their own, as far as the study's copy of the manifest says."""
    path = folder / "data" / f"{dataset}.json"
    split = json.loads(path.read_text())["identity"]["split"] if path.is_file() else None
    official = split is not None and split["kind"] == "official" and not (split["monitor"] or split["val"])
    return config.get("splits", "redrawn") == "redrawn" and not official


def _openings(dataset: str, folder: Path, openings: Sequence[Mapping[str, Any]]) -> int:
    """Return how often the test part of this dataset and split was opened; of any split if the split is unknown."""
    path = folder / "data" / f"{dataset}.json"
    split = json.loads(path.read_text()).get("split_hash") if path.is_file() else None
    own = [look for look in openings if look.get("dataset") == dataset]
    return sum(split is None or look.get("split_hash") == split for look in own)


def _tuning_gain(arm: ArmResults) -> Estimate:
    """Return the difference of the chosen candidate to the default, on the seeds of both.

    A replicate that chose the default counts as a difference of zero: tuning has changed nothing there.
    """
    if all(cell.point is None or cell.point.default for cell in arm.cells):
        return Estimate(0)
    keys = sorted(arm.finished_keys() & arm.finished_keys(default=True))
    metric = arm.metric
    ours, default = arm.runs(keys, common=True), arm.runs(keys, default=True)
    return compare(ours, default, worst=metric.worst, lower=metric.lower_is_better).typical


def _share_of_epochs_saved(search: Sequence[TrialRecord]) -> float | None:
    """Return the share of epochs that pruned trials left untrained; failed trials count as saving nothing."""
    full = max((r.epochs for r in search if r.state == "complete"), default=0)
    total = sum(full if r.state == "pruned" else r.epochs for r in search)
    return sum(full - r.epochs for r in search if r.state == "pruned") / total if total else None
