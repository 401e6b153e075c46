"""Leaderboard rows as text for a terminal, as Markdown, and as the files that lie beside the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies.results.findings import by_table, conclusion, p_text, percent, ranking, remarks, score, signed
from balance_tune.studies.storage import durable
from balance_tune.tasks import is_share, lower_is_better

WIDTH = 100
NAME = 20  # longest method name shown whole
HEADERS = ("method", "val", "test", "to joint", "95 % interval", "p Holm", "default", "c+p+f", "epochs", "saved")
PROTOCOLS = {
    "sealed": "sealed test",
    "paper": "protocol paper: chosen on the test set, not comparable with sealed rows",
}


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the leaderboard for a terminal, at most 100 columns: a table a dataset, the answer in words, remarks."""
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


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
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


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as CSV; lists and mappings are JSON inside their cell, what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows([csv_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def write_files(study_folder: Path | str, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Write `report/leaderboard.json`, `.csv` and `.md` of a study, each whole or not at all; return their paths."""
    texts = {
        "json": json.dumps(list(rows), indent=1, allow_nan=False) + "\n",
        "csv": as_csv(rows),
        "md": as_markdown(rows),
    }
    folder = Path(study_folder) / "report"
    paths = {folder / f"leaderboard.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        durable.write(path, text)
    return list(paths)


def heading(table: Sequence[dict[str, Any]]) -> str:
    """Return what a dataset's table rests on: protocol, metric, seeds, test rows."""
    seeds = max(len(row["seeds"]) for row in table)
    test = next((row["test_rows"] for row in table if row["test_rows"]), None)
    parts = [PROTOCOLS.get(table[0]["protocol"], table[0]["protocol"])]
    if table[0]["metric"] != "accuracy":
        parts.append(table[0]["metric"])
    parts.append(f"{seeds} confirmation seeds" if seeds != 1 else "1 confirmation seed")
    if test:
        groups = table[0]["test_groups"]
        parts.append(f"{test} test rows" + (f" of {groups} groups" if groups else ""))
    return ", ".join(parts)


def interval(ci: Sequence[float] | None, metric: str = "accuracy") -> str:
    """Return an interval of differences (in points, where the metric is a share), or a dash."""
    return "-" if ci is None else f"{signed(ci[0], metric)} to {signed(ci[1], metric)}"


def units(rows: Sequence[dict[str, Any]]) -> str:
    """Return how to read the figures of a table, in words."""
    others = list(dict.fromkeys(row["metric"] for row in rows if lower_is_better(row["metric"])))
    shares = "Accuracies in %, differences in points." if any(is_share(row["metric"]) for row in rows) else ""
    return " ".join(filter(None, [shares, *(f"{metric}: smaller is better." for metric in others)]))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name = row["method"] if len(row["method"]) <= NAME else row["method"][: NAME - 1] + "…"
    val = row["val_confirm"] if row["val_confirm"] is not None else row["val"]
    val = val if val is not None else row["search_val"]
    spread = f" ±{score(row['test_sd'], row['metric'])}" if row["test_sd"] is not None else ""
    return (
        name + (" *" if row["chosen"] else ""),
        score(val, row["objective"]),
        score(row["test_mean"], row["metric"]) + spread,
        "baseline" if row["baseline"] else signed(row["delta"], row["metric"]),
        interval(row["delta_ci"], row["metric"]),
        p_text(row["p_holm"]),
        score(row["default_test_mean"], row["metric"]),
        f"{row['complete']}+{row['pruned']}+{row['failed']}",
        str(row["epochs"]),
        "-" if row["saved"] is None else f"{percent(row['saved'], 0)} %",
    )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns; the last columns are left out where all would not fit."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths.pop()
    made = [
        "  ".join(_padded(cell, w, i == 0) for i, (cell, w) in enumerate(zip(ln, widths, strict=False))) for ln in lines
    ]
    return "\n".join([made[0], "-" * len(made[0]), *made[1:]])


def _padded(cell: str, width: int, first: bool) -> str:
    return cell.ljust(width) if first else cell.rjust(width)


def _wrap(text: str) -> str:
    import textwrap

    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a CSV file.

    Lists and mappings are JSON, None is empty. Text that a spreadsheet would take for a formula (it begins with one of
    `= + - @`, a tab or a line break) gets an apostrophe in front, unless it is a number.
    """
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        try:
            float(value)
        except ValueError:
            return "'" + value
    return "" if value is None else value
