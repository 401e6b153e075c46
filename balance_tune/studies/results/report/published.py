"""A section of the report: numbers that papers report for the same methods and datasets, beside the study's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from balance_tune.modulations.published import published
from balance_tune.studies.data.stores import MINIATURE
from balance_tune.studies.results.leaderboard import LeaderboardRow

HEAD = ("Method", "This study, test", "Reported", "Epoch chosen on", "Setting", "Source")
CAUTION = (
    "Nothing here was measured by this study, and nothing in it was used. Papers differ in split, encoders, epochs and "
    "in how much was tuned; an epoch chosen on test rows makes a number too high. Numbers of different sources cannot "
    "be compared with each other, nor with those of this study. “?”: not stated."
)


def hearsay(rows: Sequence[LeaderboardRow], config: Mapping[str, Any]) -> Markup:
    """Return a section of the page with the published numbers of these rows' methods; empty where there are none.

    Made-up data of a miniature have none.
    """
    stores = (config.get("data") or {}).get("stores") or {}
    parts = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        own = {row.method: row for row in rows if row.dataset == dataset}
        numbers = [r for r in published(dataset=dataset) if r.method in own and stores.get(dataset) != MINIATURE]
        if numbers:
            cells = [
                (r.method, _own(own[r.method]), f"{r.value} %", r.selection, r.setting, r.source)
                for r in sorted(numbers, key=lambda r: list(own).index(r.method))
            ]
            parts.append(Markup("<h3>{}</h3>\n{}").format(dataset, _table(cells)))
    if not parts:
        return Markup()
    head = Markup('<section id="published">\n<h2>What papers report</h2>\n<p class="warning">{}</p>\n').format(CAUTION)
    return head + Markup("\n").join(parts) + Markup("\n</section>\n")


def _own(row: LeaderboardRow) -> str:
    if row.test_mean is None:
        return "-"
    return f"{row.metric.text_with_unit(row.test_mean)}{row.spread} ({row.metric})"


def _table(cells: Sequence[Sequence[str]]) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(title) for title in HEAD)
    lines = [Markup("<tr>{}</tr>").format(Markup("").join(map(Markup("<td>{}</td>").format, line))) for line in cells]
    body = Markup("\n").join(lines)
    return Markup(
        '<div class="wide"><table class="compact"><thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table></div>'
    ).format(head, body)
