"""The leaderboard as LaTeX tables with booktabs, and a paragraph on the protocol that can be pasted into a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from balance_tune.package import VERSION
from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.results.columns import p_text
from balance_tune.studies.results.findings import by_table
from balance_tune.studies.results.leaderboard import LeaderboardRow

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
BOLD = (0, 3, 6)  # cells of a row whose verdict is "better": method, difference, verdict
SAMPLERS = {
    "gp": "Gaussian-process search", "tpe": "TPE search", "random": "random search", "cmaes": "CMA-ES search",
    "qmc": "quasi-Monte Carlo search",
}  # fmt: skip
HEADER = r"Method & Test & Default & $\Delta$ & 95\,\% interval & $p_{\mathrm{Holm}}$ & Verdict \\"


def as_latex(rows: Sequence[LeaderboardRow], config: Mapping[str, Any]) -> str:
    """Return a document fragment: a table for each dataset, and the paragraph. It needs the package booktabs.

    Bold are the rows whose verdict is "better", never the largest mean.

    Args:
        rows: the leaderboard.
        config: the study file.
    """
    parts = [_table(dataset, protocol, table) for (protocol, dataset), table in by_table(rows).items()]
    return "\n\n".join([*parts, methods_paragraph(rows, config)]) + "\n"


def escape(text: str) -> str:
    """Return text with what LaTeX would interpret escaped."""
    return "".join(SPECIAL.get(c, c) for c in text)


def methods_paragraph(rows: Sequence[LeaderboardRow], config: Mapping[str, Any]) -> str:
    """Return the protocol of a study in sentences, with the version of balance_tune.

    Args:
        rows: the leaderboard.
        config: the study file.
    """
    search, rule = config.get("search") or {}, Rule.of(config)
    replicates = max((row.replicates for row in rows), default=1)
    trials, sampler = search.get("trials"), str(search.get("sampler", "tpe"))
    budget = f"{trials} trials" if trials else f"{search.get('device_seconds')} device-seconds"
    unit = "replicate" if replicates > 1 else "seed"
    own = "its own split, search and seeds" if any(row.splits_redrawn for row in rows) else "its own search and seeds"
    repeated = (
        f"Each method was tuned in {replicates} independent replicates with {own}"
        if replicates > 1
        else ("Each method was tuned once")
    )
    text = (
        f"{repeated}, with {budget} of {SAMPLERS.get(sampler, sampler)} for each method, the joint baseline "
        f"included. {selection_in_words(rule)} The chosen point was trained on {_further(rule.confirm_seeds)} "
        "and evaluated once on the sealed test part. Differences to the tuned joint baseline are paired by "
        f"{unit}; intervals cover {unit}s and the finite test part, and p-values are Holm-corrected for the methods of "
        f"a dataset. All numbers were computed with balance_tune {VERSION}."
    )
    return escape(text)


def selection_in_words(rule: Rule) -> str:
    """Return how one point of an arm was chosen after its search, in one sentence."""
    if rule.select_seeds == 0:
        return "The point of the best search trial was chosen."
    points = f"best {rule.points} points" if rule.points > 1 else "best point"
    seeds = f"{rule.select_seeds} fresh seeds" if rule.select_seeds > 1 else "one fresh seed"
    halving = (
        ", the worse half of the points dropped from one seed to the next"
        if min(rule.points, rule.select_seeds) > 1
        else ""
    )
    errors = f"{rule.margin:g} standard error{'s' if rule.margin != 1 else ''}"
    return (
        f"The {points} and the default were compared on {seeds} by validation{halving}, and the default was kept "
        f"unless it was beaten by more than {errors}."
    )


def _further(seeds: int) -> str:
    return "one further seed" if seeds == 1 else f"{seeds} further seeds"


def _table(dataset: str, protocol: str, table: Sequence[LeaderboardRow]) -> str:
    share = table[0].metric.is_share
    unit = r" in \%, differences in points" if share else ""
    suffix = "" if protocol == "sealed" else " (chosen on the test part)"
    runs = f"{table[0].replicates} replicates" if table[0].replicates > 1 else f"{len(table[0].seeds)} seeds"
    caption = f"{escape(dataset)}: {escape(table[0].metric)}{unit}, sealed test part, {runs}{suffix}."
    lines = [
        r"\begin{table}", r"  \centering\small\setlength{\tabcolsep}{3pt}",
        f"  \\caption{{{caption}}}", r"  \begin{tabular}{@{}lrrrrrl@{}}",
        r"    \toprule", f"    {HEADER}", r"    \midrule", *(f"    {_row(row)}" for row in table),
        r"    \bottomrule", r"  \end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(row: LeaderboardRow) -> str:
    metric = row.metric
    test = "--" if row.test_mean is None else metric.text(row.test_mean)
    if row.test_sd is not None:
        test += rf" $\pm$ {metric.text(row.test_sd)}"
    ends = (
        ""
        if row.delta_ci is None
        else f"[{_signed(metric.difference(row.delta_ci[0]))}, {_signed(metric.difference(row.delta_ci[1]))}]"
    )
    p = "" if row.p_holm is None else re.sub("<", r"$<$", p_text(row.p_holm))
    cells = [
        escape(row.method),
        test,
        "--" if row.default_test_mean is None else metric.text(row.default_test_mean),
        "baseline" if row.baseline else "--" if row.delta is None else _signed(metric.difference(row.delta)),
        ends,
        p,
        row.outcome or "",
    ]
    if row.outcome == "better":
        cells = [rf"\textbf{{{cell}}}" if i in BOLD else cell for i, cell in enumerate(cells)]
    return " & ".join(cells) + r" \\"


def _signed(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "$-$")
