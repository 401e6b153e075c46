"""Says in words what leaderboard rows show: each dataset's answer, ranks across datasets, what limits the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balance_tune.studies.results.statistics import MIN_DATASETS, MIN_METHODS, friedman
from balance_tune.tasks import is_share, lower_is_better

LEVEL = 0.05  # of Holm-corrected p-values
FEW_GROUPS = 10  # a cluster bootstrap over fewer groups is known to be too sure (Cameron, Gelbach & Miller, 2008)
LISTED = 6  # names a sentence holds


def by_table(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rows of each (protocol, dataset): rows of different protocols never share a table."""
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault((row["protocol"], row["dataset"]), []).append(row)
    return tables


def conclusion(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the answer, two sentences a dataset; "no" is an answer too, told with what could have been seen."""
    return [answer(dataset, table, protocol) for (protocol, dataset), table in by_table(rows).items()]


def answer(dataset: str, table: Sequence[dict[str, Any]], protocol: str = "sealed") -> str:
    """Return the two sentences for one dataset's rows."""
    suffix = "" if protocol == "sealed" else " (protocol paper: chosen on the test set itself, so the figures flatter)"
    baseline = next((row for row in table if row["baseline"]), None)
    rivals = [row for row in table if not row["baseline"] and not row["diagnostic"]]
    known = [row for row in rivals if row["delta"] is not None]
    best = max(known, key=lambda row: _standing(row, table), default=None)
    if baseline is None or baseline["test_mean"] is None or best is None:
        return _unfinished(dataset, table, baseline, rivals)
    wins = [row for row in known if _beats(row)]
    losses = [row for row in known if _beats(row, sign=-1)]
    provisional = [row for row in table if not row["diagnostic"] and not row["confirmed"]]
    aside = f" ({len(table) - len(provisional)} of {len(table)} arms are through so far)" if provisional else ""
    if all(row["n"] < 2 for row in known):
        return (
            f"On {dataset}, {best['method']} was {_signed_words(best)} the tuned joint baseline on the one "
            f"confirmation seed{suffix}{aside}. One seed gives no interval and no test, so this may be chance: "
            "set `confirm.seeds` to 2 or more (10 is a good number)."
        )
    if best in wins:
        others = [row["method"] for row in wins if row is not best]
        also = f"; so did {_list(others)}" if others else ""
        return (
            f"On {dataset}, {best['method']}, the best by validation, reached {reached(best)} on the "
            f"test set and beat the tuned joint baseline by {_size(best['delta'], best)} ({_evidence(best)}){also}"
            f"{suffix}{aside}. {_rest(known, wins, losses, rivals)}"
        )
    if wins:
        return (
            f"On {dataset}, {_list([row['method'] for row in wins])} beat the tuned joint baseline "
            f"({'; '.join(f'{_gain(row)}, {_evidence(row)}' for row in wins)}){suffix}{aside}. "
            f"The best by validation, {best['method']}, was {_signed_words(best)} it ({_evidence(best)})."
        )
    worse = f"; {_list([row['method'] for row in losses])} did worse" if losses else ""
    return (
        f"No method beat the tuned joint baseline on {dataset}; the study could have seen a difference of "
        f"{_visible(known)}{suffix}{aside}. The best method by validation, {best['method']}, was "
        f"{_signed_words(best)} it ({_evidence(best)}){worse}."
    )


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a reader must keep in mind about these rows, a sentence or two each."""
    found: list[str] = []
    if any(row["delta_ci"] for row in rows):
        found.append(
            "Intervals and p-values are over training seeds and hold for this split of the data; what another test set "
            "of this size could have changed is told by the bootstrap interval of the test score."
        )
    failed = [f"{row['n_failed']} of {row['arm']}" for row in rows if row["n_failed"]]
    if failed:
        found.append(f"Confirmation seeds that failed, and are missing from the comparison: {_list(failed)}.")
    still = [row["arm"] for row in rows if row["delta_sd"] == 0 and row["n"] > 1]
    if still:
        found.append(
            f"{_list(still)}: the difference is the same on every seed, so there is no t test; p is a sign-flip test's."
        )
    few = sorted({(row["dataset"], row["test_groups"]) for row in rows if 0 < row["test_groups"] < FEW_GROUPS})
    found += [
        f"The test rows of {dataset} come from only {count} groups; an interval that resamples so few is too narrow."
        for dataset, count in few
    ]
    if any(row["protocol"] == "paper" for row in rows):
        found.append(
            "Rows of protocol paper chose hyperparameters and epochs on the test set, as published work did; they can "
            "be compared with published numbers, never with sealed rows."
        )
    if any(row["diagnostic"] for row in rows):
        found.append("Unimodal arms show what one modality can do alone; they are outside Holm's correction.")
    lost, preempted, repeated = (sum(row.get(name) or 0 for row in rows) for name in ("lost", "preempted", "repeated"))
    if lost or preempted or repeated:
        found.append(
            f"{lost} times a trial's process died, {preempted} times its node was taken away, and it went on from its "
            f"last state; {repeated} epochs were trained again for it. They count in no budget."
        )
    return found


@dataclass(frozen=True)
class Ranking:
    """Average rank of every method over the datasets where all are confirmed, and the Friedman test in words."""

    ranks: list[tuple[str, float]]  # best first
    datasets: list[str]
    p: float | None
    words: str


def ranking(rows: Sequence[dict[str, Any]]) -> Ranking | None:
    """Return average ranks by sealed test score; None with fewer than two datasets or methods in common."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["protocol"] == "sealed" and not row["diagnostic"] and row["test_mean"] is not None:
            scores.setdefault(row["dataset"], {})[row["method"]] = _sign(row) * row["test_mean"]
    methods = sorted(set.intersection(*(set(s) for s in scores.values()))) if scores else []
    if len(scores) < 2 or len(methods) < 2:
        return None
    test = friedman(np.array([[s[m] for m in methods] for s in scores.values()]))
    ranks = sorted(zip(methods, map(float, test.average_ranks), strict=True), key=lambda pair: pair[1])
    if test.p is None:
        words = (
            f"{len(methods)} methods on {len(scores)} datasets: ranks are given, a Friedman test is not, which needs "
            f"{MIN_METHODS} methods and {MIN_DATASETS} datasets to have any power."
        )
    else:
        verdict = "differ" if test.p < LEVEL else "do not differ beyond chance"
        words = (
            f"Friedman test over {len(scores)} datasets: the ranks {verdict} (p {p_text(test.p)}, Iman-Davenport form)."
        )
    return Ranking(ranks, list(scores), test.p, words)


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage without its sign, or a dash."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}"


def score(value: float | None, metric: str = "accuracy") -> str:
    """Return a metric's value as tables show it: in % without the sign where it is a share, else as it is."""
    if is_share(metric):
        return percent(value)
    return "-" if value is None else f"{value:.3f}"


def reached(row: dict[str, Any]) -> str:
    """Return a row's mean test score in words."""
    value = score(row["test_mean"], row["metric"])
    return f"{value} %" if is_share(row["metric"]) else f"{row['metric']} {value}"


def points(difference: float) -> str:
    """Return the size of a difference of fractions in percentage points, one decimal, two where one would show zero."""
    size = abs(100 * difference)
    return f"{size:.2f}" if 0 < size < 0.1 else f"{size:.1f}"


def signed(difference: float | None, metric: str = "accuracy") -> str:
    """Return a difference with its sign, or a dash: in percentage points where the metric is a share, else as it is."""
    if difference is None:
        return "-"
    text = f"{100 * difference:+.1f}" if is_share(metric) else f"{difference:+.3f}"
    return text.replace("-", "\N{MINUS SIGN}")


def p_text(p: float | None) -> str:
    """Return a p-value as papers print it."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _standing(row: dict[str, Any], table: Sequence[dict[str, Any]]) -> int:
    return -next(i for i, other in enumerate(table) if other is row)  # rows come best validation first


def _beats(row: dict[str, Any], sign: int = 1) -> bool:
    return row["p_holm"] is not None and row["p_holm"] < LEVEL and sign * _sign(row) * row["delta"] > 0


def _sign(row: dict[str, Any]) -> int:
    """Return 1 where a larger score is better, -1 where a smaller one is."""
    return -1 if lower_is_better(row["metric"]) else 1


def _size(difference: float, row: dict[str, Any]) -> str:
    """Return the size of a difference in words."""
    return f"{points(difference)} points" if is_share(row["metric"]) else f"{abs(difference):.3f}"


def _evidence(row: dict[str, Any]) -> str:
    if row["delta_ci"] is None:
        return f"{row['n']} seed, no interval"
    low, high = row["delta_ci"]
    p = p_text(row["p_holm"])
    return f"95 % interval {signed(low, row['metric'])} to {signed(high, row['metric'])}, Holm p {p}, {row['n']} seeds"


def _gain(row: dict[str, Any]) -> str:
    return f"{'+' if row['delta'] > 0 else chr(0x2212)}{_size(row['delta'], row)}"


def _signed_words(row: dict[str, Any]) -> str:
    if abs(row["delta"]) < 5e-5:
        return "level with"
    return f"{_size(row['delta'], row)} {'above' if row['delta'] > 0 else 'below'}"


def _visible(rows: Sequence[dict[str, Any]]) -> str:
    """Say the smallest differences the design could have found, after Holm's correction, with 80 % power."""
    sizes = sorted((row["mde_holm"], row["method"]) for row in rows if row["mde_holm"] is not None)
    if not sizes:
        return "any size that is not the same on every seed"
    (low, first), (high, last) = sizes[0], sizes[-1]
    if _size(low, rows[0]) == _size(high, rows[0]):
        return f"{_size(high, rows[0])} or more"
    return f"{_size(low, rows[0])} ({first}) to {_size(high, rows[0])} ({last}) or more"


def _rest(
    known: Sequence[dict[str, Any]],
    wins: Sequence[dict[str, Any]],
    losses: Sequence[dict[str, Any]],
    rivals: Sequence[dict[str, Any]],
) -> str:
    even = [row for row in known if row not in wins and row not in losses]
    parts = []
    if even:
        parts.append(f"no difference was found for {_list([row['method'] for row in even])}")
    if losses and even:
        parts.append(f"{_list([row['method'] for row in losses])} did worse")
    elif losses:
        parts.append(f"the others did worse ({_list([row['method'] for row in losses])})")
    if not parts:
        far = " so far" if len(known) < len(rivals) else ""
        alone = len(known) == 1
        parts.append(
            f"it is the only method compared{far}" if alone else f"all {len(known)} methods compared{far} beat it"
        )
    text = f"{', and '.join(parts)}; the study could have seen a difference of {_visible(even or known)}."
    return text[0].upper() + text[1:]


def _unfinished(
    dataset: str, table: Sequence[dict[str, Any]], baseline: dict[str, Any] | None, rivals: Sequence[dict[str, Any]]
) -> str:
    if baseline is None:
        best = next((row for row in table if row["chosen"]), None)
        lead = (
            f"; the best by validation is {best['method']} with {reached(best)} on the test set"
            if best and best["test_mean"] is not None
            else ""
        )
        return (
            f"On {dataset} there is no joint baseline to compare with{lead}. Add `joint` to `methods` and run the "
            "study again to learn whether balancing helps."
        )
    through = sum(row["confirmed"] for row in table)
    if not rivals and baseline["test_mean"] is not None:
        return (
            f"On {dataset} the tuned joint baseline reached {reached(baseline)} on the test set. The "
            "study holds no balancing method to compare with it."
        )
    broken = [row for row in table if row.get("failure")]
    if broken:
        first = next((row for row in broken if row["baseline"]), broken[0])
        others = [row["method"] for row in broken if row is not first]
        more = f"; so {'has' if len(others) == 1 else 'have'} {_list(others)}" if others else ""
        return (
            f"There is no answer for {dataset}: {first['method']} has failed ({first['failure']}){more}. Mend the "
            "cause; `balance-tune run --retry-failed` then runs the failed trials again."
        )
    leader = max((r for r in table if r["search_val"] is not None), key=lambda r: _standing(r, table), default=None)
    so_far = f"by validation {leader['method']} leads" if leader else "no trial has finished"
    return (
        f"There is no answer for {dataset} yet: {through} of {len(table)} arms are confirmed on fresh seeds. "
        f"So far {so_far}, which is no evidence; `balance-tune run` goes on where it stopped."
    )


def _list(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= LISTED else [*names[: LISTED - 1], f"{len(names) - LISTED + 1} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
