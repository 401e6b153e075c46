"""Leaderboard rows as text for a terminal, as Markdown, and as the files that lie beside the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies.results.findings import by_table, conclusion, ranking, remarks
from balance_tune.studies.results.leaderboard import COLUMNS, TABLE, LeaderboardRow
from balance_tune.studies.storage import durable

WIDTH = 100
HEADERS = tuple(column.header for column in TABLE)
PROTOCOLS = {
    "sealed": "sealed test",
    "paper": "protocol paper: chosen on the test set, not comparable with sealed rows",
}


def as_text(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard for a terminal, at most 100 columns: a table per dataset, the answer in words, remarks."""
    if not rows:
        return "No trial has started yet."
    parts: list[str] = []
    for ((_, dataset), table), words in zip(by_table(rows).items(), conclusion(rows), strict=True):
        parts.append(f"{dataset} ({heading(table)})\n{_aligned([HEADERS, *map(_cells, table)])}\n\n{_wrap(words)}")
    if ranked := ranking(rows):
        order = ", ".join(f"{method} {rank:.2f}" for method, rank in ranked.ranks)
        parts.append(_wrap(f"Average rank over {len(ranked.datasets)} datasets: {order}. {ranked.words}"))
    legend = f"* best by validation. {units(rows)} c+p+f: complete, pruned, failed."
    parts.append("\n".join(_wrap(text) for text in [legend, *remarks(rows)]))
    return "\n\n".join(parts) + "\n"


def as_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard as Markdown, the answer first."""
    parts = ["# Leaderboard"]
    for ((_, dataset), table), words in zip(by_table(rows).items(), conclusion(rows), strict=True):
        lines = [f"| {' | '.join(HEADERS)} |", "|" + "---|" * len(HEADERS)]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(row))} |" for row in table]
        parts += [f"## {dataset} ({heading(table)})", words, "\n".join(lines)]
    if ranked := ranking(rows):
        lines = ["| method | average rank |", "|---|---|", *(f"| {m} | {r:.2f} |" for m, r in ranked.ranks)]
        parts += ["## Across datasets", ranked.words, "\n".join(lines)]
    parts += ["\n".join(f"- {text}" for text in ["\\* best by validation.", *remarks(rows)])]
    return "\n\n".join(parts) + "\n"


def as_csv(rows: Sequence[LeaderboardRow]) -> str:
    """Return the rows as CSV; lists and mappings are JSON inside their cell, unknown values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(COLUMNS)
        writer.writerows([csv_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue()


def write_files(study_folder: Path | str, rows: Sequence[LeaderboardRow]) -> list[Path]:
    """Write `report/leaderboard.json`, `.csv` and `.md` of a study, each whole or not at all; return their paths."""
    texts = {
        "json": json.dumps([dict(row) for row in rows], indent=1, allow_nan=False) + "\n",
        "csv": as_csv(rows),
        "md": as_markdown(rows),
    }
    folder = Path(study_folder) / "report"
    paths = {folder / f"leaderboard.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        durable.write(path, text)
    return list(paths)


def heading(table: Sequence[LeaderboardRow]) -> str:
    """Return the heading of a dataset's table: protocol, metric, seeds, test rows."""
    seeds = max(len(row.seeds) for row in table)
    test = next((row.test_rows for row in table if row.test_rows), None)
    parts = [PROTOCOLS.get(table[0].protocol, table[0].protocol)]
    if table[0].metric != "accuracy":
        parts.append(table[0].metric)
    if table[0].replicates > 1:
        parts.append(f"{table[0].replicates} replicates")
    else:
        parts.append(f"{seeds} confirmation seeds" if seeds != 1 else "1 confirmation seed")
    if test:
        groups = table[0].test_groups
        parts.append(f"{test} test rows" + (f" of {groups} groups" if groups else ""))
    return ", ".join(parts)


def units(rows: Sequence[LeaderboardRow]) -> str:
    """Return how to read the figures of a table, in words."""
    others = list(dict.fromkeys(row.metric for row in rows if row.metric.lower_is_better))
    shares = "Accuracies in %, differences in points." if any(row.metric.is_share for row in rows) else ""
    return " ".join(filter(None, [shares, *(f"{metric}: smaller is better." for metric in others)]))


def _cells(row: LeaderboardRow) -> tuple[str, ...]:
    return tuple(column.table_text(row) for column in TABLE)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns; the last columns are left out where all would not fit."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths.pop()
    rows = []
    for name, *cells in lines:
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=False)]
        rows.append("  ".join([name.ljust(widths[0]), *numbers]))
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:]])


def _wrap(text: str) -> str:
    import textwrap

    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a CSV file.

    Lists and mappings are JSON, None is empty. Text that a spreadsheet would take for a formula (it begins with one of
    `= + - @`, a tab or a line break) gets an apostrophe in front, unless it is a number.
    """
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        try:
            float(value)
        except ValueError:
            return "'" + value
    return "" if value is None else value
