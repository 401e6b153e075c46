"""Any two arms of a dataset compared, as each arm is with the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.study_record import looks_of
from balance_tune.studies.results.arm_results import arms_by_table
from balance_tune.studies.results.columns import interval, p_text
from balance_tune.studies.results.difference import collapsed_runs, difference
from balance_tune.studies.results.statistics import Interval
from balance_tune.studies.results.verdict import Outcome, interval_level, verdicts
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import did_you_mean, shown
from balance_tune.tasks import Objective


@dataclass(frozen=True)
class Pair:
    """The difference of two arms of one dataset on the test part, in the unit of `metric`.

    Attributes:
        first, second: names of the arms; the difference is first - second.
        metric: the test metric.
        n: replicates (or seeds) on which both are sound.
        delta, ci, p: mean difference with its 95 % interval and two-sided p-value, adjusted for looks. For several
            comparisons the user must correct.
        mde: smallest true difference that is found with 80 % power.
        outcome: "better", "worse" or "undecided", of the first arm.
        p_improvement: probability that a run of the first is better than one of the second.
        replicates: of the study.
    """

    first: str
    second: str
    metric: Objective
    n: int
    delta: float | None
    ci: Interval | None
    p: float | None
    mde: float | None
    outcome: Outcome
    p_improvement: float | None
    replicates: int

    def __str__(self) -> str:
        runs = "replicates" if self.replicates > 1 else "seeds"
        if self.delta is None or self.ci is None:
            return f"{self.first} and {self.second} have too few {runs} in common to be compared ({self.n})."
        smallest = (
            "" if self.mde is None else f" Smallest difference that would be found: {self.metric.size(self.mde)}."
        )
        chance = "" if self.p_improvement is None else f", P(better) {100 * self.p_improvement:.0f} %"
        return (
            f"{self.first} - {self.second}: {self.metric.difference(self.delta)} on {self.metric} (95 % interval "
            f"{interval(self.ci, self.metric)}, p {p_text(self.p)}, {self.n} {runs}{chance}): {self.outcome}.{smallest}"
        )


def compare_arms(study_folder: StudyFolder | Path | str, first: str, second: str) -> Pair:
    """Return the difference of two arms of a study.

    Args:
        study_folder: of the study.
        first: name of an arm ("av_digits/mlb").
        second: name of another arm of the same dataset.

    Raises:
        UserError: there is no such arm, or they are of different datasets.
    """
    folder = StudyFolder.of(study_folder if not isinstance(study_folder, str) else Path(study_folder)).path
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    tables = arms_by_table(read_records(folder), config, folder)
    by_name = {f"{arm.dataset}/{arm.method}": arm for own in tables.values() for arm in own}
    for name in (first, second):
        if name not in by_name:
            raise UserError(f"an arm must be one of the study, but got {shown(name)}.{did_you_mean(name, by_name)}")
    ours, theirs = by_name[first], by_name[second]
    if ours.dataset != theirs.dataset or first == second:
        raise UserError(f"two arms of one dataset can be compared, but got {shown(first)} and {shown(second)}.")
    looks, metric = looks_of(folder), ours.metric
    bad = collapsed_runs(tables[ours.protocol, ours.dataset])
    result = difference(ours, theirs, bad, interval_level(looks))
    (verdict,) = verdicts([result.comparison], lower=metric.lower_is_better, looks=looks, span=metric.span)
    typical = result.comparison.typical
    return Pair(
        first,
        second,
        metric,
        typical.n,
        typical.mean,
        typical.ci,
        verdict.p,
        verdict.mde,
        verdict.outcome,
        result.chance and result.chance[0],
        ours.replicates,
    )
