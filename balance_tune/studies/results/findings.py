"""Describes leaderboard rows in sentences: the verdict on each dataset, ranks across datasets, and caveats."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from balance_tune.studies.results.across import Ranks, compare_ranks
from balance_tune.studies.results.columns import interval, p_text
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.statistics import MIN_DATASETS, MIN_METHODS
from balance_tune.studies.results.verdict import interval_level, looks_factor

LEVEL = 0.05
FEW_GROUPS = 10  # fewer say little about the population of groups (Cameron, Gelbach & Miller, 2008)
MAX_LISTED = 6  # names a sentence holds
RANKS_NEEDED = "Ranks of methods need two datasets on which two methods have a test score."


def by_table(rows: Sequence[LeaderboardRow]) -> dict[tuple[str, str], list[LeaderboardRow]]:
    """Return the rows of each (protocol, dataset): rows of different protocols never share a table."""
    tables: dict[tuple[str, str], list[LeaderboardRow]] = {}
    for row in rows:
        tables.setdefault((row.protocol, row.dataset), []).append(row)
    return tables


def conclusion(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return the answer, two sentences per dataset; "no" comes with the minimum detectable difference."""
    return [answer(dataset, table, protocol) for (protocol, dataset), table in by_table(rows).items()]


def answer(dataset: str, table: Sequence[LeaderboardRow], protocol: str = "sealed") -> str:
    """Return the two sentences for one dataset's rows."""
    suffix = "" if protocol == "sealed" else " (protocol paper: chosen on the test set, so optimistic)"
    baseline = next((row for row in table if row.baseline), None)
    rivals = [row for row in table if row.rival]
    failures = _failures(dataset, table, suffix)
    compared = [row for row in rivals if row.delta is not None]
    best = max(compared, key=lambda row: _position(row, table), default=None)
    over = all(row.failure or row.confirmed for row in table if not row.diagnostic)
    if failures and over and (best is None or (baseline is not None and baseline.failure)):
        return failures
    if baseline is None or baseline.test_mean is None or best is None:
        return _unfinished(dataset, table, baseline, rivals)
    wins = [row for row in compared if row.outcome == "better"]
    losses = [row for row in compared if row.outcome == "worse"]
    provisional = [row for row in table if not row.diagnostic and not row.confirmed and not row.failure]
    aside = f" ({len(table) - len(provisional)} of {len(table)} arms are through so far)" if provisional else ""
    where, rival = _where(dataset, best), _baseline_words(best)
    if all(row.n < 2 for row in compared):
        one, unit = ("replicate", "replicates") if best.replicates > 1 else ("confirmation seed", "confirm.seeds")
        return (
            f"{where}, {_subject(best)} was {_signed_words(best)} {rival} on the one {one}{suffix}{aside}. One {one} "
            f"gives no interval and no test, so this may be chance: set `{unit}` to "
            f"{'5 or more' if best.replicates > 1 else '2 or more (10 is a good number)'}."
        )
    if best in wins:
        others = [row.method for row in wins if row is not best]
        also = f"; so did {'that of ' if best.replicates == 1 else ''}{_list(others)}" if others else ""
        return (
            f"{where}, {_subject(best)}, the best by validation, reached {score_text(best)} on the "
            f"test set and beat {rival} by {best.metric.size(_delta(best))} ({_evidence(best)}){also}"
            f"{suffix}{aside}. {_rest(compared, losses, rivals)}"
        )
    if wins:
        return (
            f"{where}, {_subjects([row.method for row in wins], best)} beat {rival} "
            f"({'; '.join(f'{_gain(row)}, {_evidence(row)}' for row in wins)}){suffix}{aside}. "
            f"The best by validation, {_subject(best)}, was {_signed_words(best)} it ({_evidence(best)})."
        )
    worse = f"; {_list([row.method for row in losses])} did worse" if losses else ""
    equal = [row.method for row in compared if row.outcome == "equivalent"]
    worse += f"; {_list(equal)} {'is' if len(equal) == 1 else 'are'} equivalent to it" if equal else ""
    return (
        f"{where} no {'method' if best.replicates > 1 else 'tuned point'} beat {rival}; {_visible(compared)}{suffix}"
        f"{aside}. "
        f"The best by validation, {_subject(best)}, was {_signed_words(best)} it ({_evidence(best)}){worse}."
    )


def remarks(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return caveats about these rows, a sentence or two each."""
    return [*_about_runs(rows), *_about_tests(rows), *_about_choices(rows)]


def _about_runs(rows: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield what the arms are, what intervals cover, which runs failed or collapsed, and what follows from that."""
    definitions = dict.fromkeys((row.method, row.definition) for row in rows if row.definition)
    yield from (f"{name}: {definition}." for name, definition in definitions)
    if any(row.delta_ci for row in rows):
        yield _scope(rows)
    failed = [f"{row.n_failed} of {row.arm}" for row in rows if row.n_failed]
    if failed:
        yield (
            f"Confirmation seeds that failed, or replicates with nothing to confirm: {_list(failed)}. "
            "Means and intervals leave them out. Against their arm they count as the worst score, and its verdict "
            "must hold with them."
        )
    collapses = [f"{row.n_collapsed} of {row.arm}" for row in rows if row.n_collapsed]
    if collapses:
        yield (
            f"Confirmation seeds that collapsed, far below their arm's median: {_list(collapses)}. Differences and "
            "intervals leave them out, and the verdict on their arm must hold with them."
        )
    blocked = [row.arm for row in rows if row.blocked]
    if blocked:
        yield f"{_list(blocked)}: significant only without the failed and collapsed runs, so undecided."
    unsound = [row.arm for table in by_table(rows).values() for row in _rows_above_best(table)]
    if unsound:
        yield f"Not called the best by validation, because of runs that failed or collapsed: {_list(unsound)}."
    dead = [f"{row.arm} ({row.failure})" for row in rows if row.failure]
    if dead:
        yield f"Arms without any result: {_list(dead)}."


def _rows_above_best(table: Sequence[LeaderboardRow]) -> Iterator[LeaderboardRow]:
    """Yield the rows of a dataset that stand above the one that is called the best by validation."""
    contenders = [row for row in table if row.contender]
    if any(row.chosen for row in contenders):
        yield from itertools.takewhile(lambda row: not row.chosen, contenders)


def _about_tests(rows: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield what limits the tests of significance."""
    openings = sorted({(row.dataset, row.openings) for row in rows if row.openings})
    yield from (
        f"The sealed test part of {dataset} was opened {count} time{'s' if count > 1 else ''} outside studies "
        "(unsealed.jsonl): whatever was changed after that may have been chosen by it."
        for dataset, count in openings
    )
    looks = max((row.looks for row in rows), default=1)
    if looks > 1:
        yield (
            f"This is look {looks} at the study: trials, seeds or replicates were added after earlier verdicts. "
            f"p-values are multiplied by {looks_factor(looks)} and intervals are "
            f"{100 * interval_level(looks):.4g} % intervals for it."
        )
    still = [row.arm for row in rows if row.delta_sd == 0 and row.n > 1]
    if still:
        yield (
            f"{_list(still)}: the difference is the same in every run, so there is no t test; p is a sign-flip test's."
        )
    few = sorted({(row.dataset, row.test_groups) for row in rows if 0 < row.test_groups < FEW_GROUPS})
    yield from (
        f"The test rows of {dataset} come from only {count} groups; so few say little about other groups."
        for dataset, count in few
    )


def _about_choices(rows: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield how points were chosen, which arms are not compared as methods, and what was trained again."""
    defaults = [row.arm for row in rows if row.replicates == 1 and row.default_won and row.advantage is not None]
    defaults += [
        f"{row.arm} ({row.default_kept} of {row.replicates} replicates)"
        for row in rows
        if row.default_kept and row.replicates > 1
    ]
    if defaults:
        yield (
            f"{_list(defaults)}: the default was kept, because no point was ahead of it on validation by more than the "
            "study's margin."
        )
    if any(row.protocol == "paper" for row in rows):
        yield (
            "Rows of protocol paper chose hyperparameters and epochs on the test set, as published work did; they can "
            "be compared with published numbers, never with sealed rows."
        )
    yield from (_placebo(row) for row in rows if row.placebo and row.p_value is not None)
    if any(row.diagnostic and not row.placebo for row in rows):
        yield "Unimodal arms show what one modality can do alone; they are outside Holm's correction."
    lost, preempted, repeated = (sum(row[name] for row in rows) for name in ("lost", "preempted", "repeated"))
    if lost or preempted or repeated:
        yield (
            f"{lost} times a trial's process died and {preempted} times its node was taken away; the trial continued "
            f"from its last state. {repeated} epochs were trained again, and count in no budget."
        )


@dataclass(frozen=True)
class Ranking:
    """Average rank of every method over the datasets where all are confirmed, and the tests of the ranks in words."""

    ranks: list[tuple[str, float]]  # best first
    datasets: list[str]
    p: float | None
    words: str
    tested: Ranks


def ranking(rows: Sequence[LeaderboardRow]) -> Ranking | None:
    """Return average ranks by sealed test score, one rank per family of datasets.

    None with fewer than two datasets or methods in common.
    """
    scores: dict[str, dict[str, float]] = {}
    families: dict[str, str] = {}
    for row in rows:
        if row.protocol == "sealed" and not row.diagnostic and row.test_mean is not None:
            scores.setdefault(row.dataset, {})[row.method] = row.metric.gain(row.test_mean)
            families[row.dataset] = row.family or row.dataset
    methods = sorted(set.intersection(*(set(s) for s in scores.values()))) if scores else []
    if len(scores) < 2 or len(methods) < 2:
        return None
    values = [[s[m] for m in methods] for s in scores.values()]
    comparison = compare_ranks(values, methods, [families[dataset] for dataset in scores])
    ranks = list(zip(comparison.methods, comparison.average, strict=True))
    over = f"{len(scores)} datasets"
    if comparison.families < len(scores):
        over += f" of {comparison.families} families, each of which counts once"
    if comparison.p is None:
        words = (
            f"There is no Friedman test of these ranks: it needs {MIN_METHODS} methods and {MIN_DATASETS} families of "
            f"datasets to have any power, and here are {len(methods)} methods on {over}."
        )
    else:
        verdict = "differ" if comparison.p < LEVEL else "do not differ beyond chance"
        words = f"Friedman test over {over}: the ranks {verdict} (p {p_text(comparison.p)}, Iman-Davenport form)."
        words += _post_hoc(comparison)
    return Ranking(ranks, list(scores), comparison.p, words, comparison)


def _post_hoc(ranks: Ranks) -> str:
    """Return which ranks differ by more than Nemenyi's critical difference, in words."""
    if ranks.critical is None or ranks.p is None or ranks.p >= LEVEL:
        return ""
    best = [m for m, r in zip(ranks.methods, ranks.average, strict=True) if r - ranks.average[0] < ranks.critical]
    rest = [m for m in ranks.methods if m not in best]
    text = f" Nemenyi's critical difference of two ranks is {ranks.critical:.2f}: "
    if not rest:
        return f"{text}no two methods differ by that much from the best, {ranks.methods[0]}."
    near = f"; {best[0]} does not differ significantly from {_list(best[1:])}" if len(best) > 1 else ""
    return f"{text}{_list(rest)} {'is' if len(rest) == 1 else 'are'} worse than {best[0]}{near}."


def score_text(row: LeaderboardRow) -> str:
    """Return a row's mean test score in words; a metric that is not a share is named."""
    value = row.metric.text_with_unit(row.test_mean)
    return value if row.metric.is_share else f"{row.metric} {value}"


def _placebo(row: LeaderboardRow) -> str:
    """Return what the placebo shows: a difference between two joint arms is a false alarm."""
    size = f"{interval(row.delta_ci, row.metric)}, p {p_text(row.p_value)}"
    if row.p_value is not None and row.p_value < LEVEL:
        return (
            f"ALARM on {row.dataset}: the placebo, a second joint arm, differs from the baseline (95 % interval "
            f"{size}). One study in twenty shows this by chance. Otherwise, the other verdicts on this dataset are "
            "unreliable too."
        )
    return f"The placebo on {row.dataset}, a second joint arm, is level with the baseline (95 % interval {size})."


def _where(dataset: str, row: LeaderboardRow) -> str:
    return f"On {dataset}" if row.replicates > 1 else f"On this split of {dataset}"


def _subject(row: LeaderboardRow) -> str:
    """Return the subject of the comparison: a method, or with one replicate the one point that its search chose."""
    return _subjects([row.method], row)


def _subjects(methods: Sequence[str], row: LeaderboardRow) -> str:
    points = "point" if len(methods) == 1 else "points"
    return _list(methods) if row.replicates > 1 else f"the tuned {points} of {_list(methods)}"


def _baseline_words(row: LeaderboardRow) -> str:
    return "the tuned joint baseline" if row.replicates > 1 else "that of the joint baseline"


def _scope(rows: Sequence[LeaderboardRow]) -> str:
    """Return what the intervals and p-values of these rows cover."""
    replicates = max(row.replicates for row in rows)
    if replicates == 1:
        return (
            "Intervals and p-values cover training seeds and the finite test part. With one replicate they compare "
            "tuned points on this split, not methods: another search or another split may choose another point. "
            "`replicates: 5` answers for methods."
        )
    text = (
        f"Intervals and p-values are over {replicates} replicates, each with its own search, choice and training "
        "seeds, and over the finite test part: they compare methods as this protocol tunes them."
    )
    fixed = sorted({row.dataset for row in rows if not row.splits_redrawn})
    if fixed:
        text += f" The split of {_list(fixed)} is the same in all replicates, so intervals do not cover it."
    return text


def _position(row: LeaderboardRow, table: Sequence[LeaderboardRow]) -> int:
    return -next(i for i, other in enumerate(table) if other is row)  # rows come best validation first


def _delta(row: LeaderboardRow) -> float:
    """Return the difference of a row that has one."""
    return row.delta or 0.0


def _evidence(row: LeaderboardRow) -> str:
    if row.delta_ci is None:
        return f"{row.n} {'replicate' if row.replicates > 1 else 'seed'}, no interval"
    runs = f"{row.n} {'replicates' if row.replicates > 1 else 'seeds'}"
    return f"95 % interval {interval(row.delta_ci, row.metric)}, Holm p {p_text(row.p_holm)}, {runs}"


def _gain(row: LeaderboardRow) -> str:
    return f"{'+' if _delta(row) > 0 else chr(0x2212)}{row.metric.size(_delta(row))}"


def _signed_words(row: LeaderboardRow) -> str:
    delta = _delta(row)
    if abs(delta) < 5e-5:
        return "level with"
    return f"{row.metric.size(delta)} {'above' if delta > 0 else 'below'}"


def _visible(rows: Sequence[LeaderboardRow]) -> str:
    """Return the minimum detectable differences in words: after Holm's correction, with 80 % power."""
    sizes = sorted((row.mde_holm, row.method) for row in rows if row.mde_holm is not None)
    if not sizes:
        return "the design cannot tell how small a difference it would have detected"
    (low, first), (high, last), size = sizes[0], sizes[-1], rows[0].metric.size
    if size(low) == size(high):
        return f"the minimum detectable difference was {size(high)}"
    return f"the minimum detectable difference was {size(low)} ({first}) to {size(high)} ({last})"


def _rest(
    compared: Sequence[LeaderboardRow],
    losses: Sequence[LeaderboardRow],
    rivals: Sequence[LeaderboardRow],
) -> str:
    undecided = [row for row in compared if row.outcome == "undecided"]
    equal = [row.method for row in compared if row.outcome == "equivalent"]
    parts = []
    if equal:
        parts.append(f"{_list(equal)} {'is' if len(equal) == 1 else 'are'} equivalent to the baseline")
    if undecided:
        parts.append(f"no difference was found for {_list([row.method for row in undecided])}")
    if losses and (undecided or equal):
        parts.append(f"{_list([row.method for row in losses])} did worse")
    elif losses:
        parts.append(f"the others did worse ({_list([row.method for row in losses])})")
    if not parts:
        far = " so far" if len(compared) < len(rivals) else ""
        alone = len(compared) == 1
        parts.append(
            f"it is the only method compared{far}" if alone else f"all {len(compared)} methods compared{far} beat it"
        )
    text = f"{', and '.join(parts)}; {_visible(undecided or compared)}."
    return text[0].upper() + text[1:]


def _failures(dataset: str, table: Sequence[LeaderboardRow], suffix: str) -> str:
    """Return the answer where whole arms have failed and no comparison is left; empty where no arm has failed."""
    failed = [row for row in table if row.failure and not row.diagnostic]
    rest = [row for row in table if not row.failure and not row.diagnostic and row.test_mean is not None]
    if not failed:
        return ""
    if any(row.baseline for row in rest):
        reasons = "; ".join(f"{row.method}: {row.failure}" for row in failed[:MAX_LISTED])
        baseline = next(row for row in rest if row.baseline)
        return (
            f"On {dataset} every balancing method failed{suffix} ({reasons}). The tuned joint baseline reached "
            f"{score_text(baseline)} on the test set."
        )
    first = next((row for row in failed if row.baseline), failed[0])
    others = [row.method for row in failed if row is not first]
    more = f"; so {'has' if len(others) == 1 else 'have'} {_list(others)}" if others else ""
    return (
        f"There is no answer for {dataset}: {first.method} has failed ({first.failure}){more}. Fix the cause; "
        "`balance-tune run --retry-failed` then runs the failed trials again."
    )


def _unfinished(
    dataset: str, table: Sequence[LeaderboardRow], baseline: LeaderboardRow | None, rivals: Sequence[LeaderboardRow]
) -> str:
    if baseline is None:
        best = next((row for row in table if row.chosen), None)
        lead = (
            f"; the best by validation is {best.method} with {score_text(best)} on the test set"
            if best and best.test_mean is not None
            else ""
        )
        return (
            f"On {dataset} there is no joint baseline to compare with{lead}. Add `joint` to `methods` and run the "
            "study again to learn whether balancing helps."
        )
    through = sum(row.confirmed for row in table)
    if not rivals and baseline.test_mean is not None:
        return (
            f"On {dataset} the tuned joint baseline reached {score_text(baseline)} on the test set. The "
            "study holds no balancing method to compare with it."
        )
    leader = max((r for r in table if r.search_val is not None), key=lambda r: _position(r, table), default=None)
    so_far = (
        f"{leader.method} has the best validation score of the search so far, which is no evidence of a gain."
        if leader
        else "No trial has finished."
    )
    return f"There is no answer for {dataset} yet: {through} of {len(table)} arms are confirmed. {so_far}"


def _list(names: Sequence[str]) -> str:
    shown = (
        list(names) if len(names) <= MAX_LISTED else [*names[: MAX_LISTED - 1], f"{len(names) - MAX_LISTED + 1} others"]
    )
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
