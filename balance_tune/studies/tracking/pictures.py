"""Pictures of a run in MLflow: learning curves and confusion matrix as SVG, scores by class as a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.results.report.charts import FAINT, INK, SOFT, Axis, Plot, Style, spread, style_of
from balance_tune.studies.results.tables import csv_cell
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import BY_MODALITY, Objective

CURVES, CONFUSION, CLASSES = "curves.svg", "confusion.svg", "classes.csv"
MOST_CLASSES = 60  # a larger matrix cannot be read as a picture


def trial_pictures(folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """Return name -> text of the pictures and tables of the confirmation trial in `folder`, as far as its files go."""
    pictures = {}
    try:
        rows = list(durable.json_lines(folder / "history.jsonl"))
    except UserError:  # damaged: the report says so; the other pictures are written
        rows = []
    if rows:
        pictures[CURVES] = curves_of_trial(rows)
    table = (
        json.loads((folder / "test.json").read_text()).get("confusion") if (folder / "test.json").is_file() else None
    )
    if table and len(table) == len(classes):
        pictures[CLASSES] = table_of_classes(table, classes)
        if len(classes) <= MOST_CLASSES:
            pictures[CONFUSION] = matrix(table, classes)
    return pictures


def curves_of_trial(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the validation metric of fusion and of single modalities (accuracy, of classes), epoch by epoch."""
    own = next((name for name in BY_MODALITY.values() if any(key == f"val/{name}" for key in rows[-1])), "loss")
    modalities = [name.removeprefix(f"val/{own}/") for name in rows[-1] if name.startswith(f"val/{own}/")]
    lines = {name: [(row["epoch"], row[f"val/{own}/{name}"]) for row in rows] for name in modalities}
    lines["fused"] = [(row["epoch"], row[f"val/{own}"]) for row in rows if f"val/{own}" in row]
    lines = {name: line for name, line in lines.items() if line}
    share = Objective(own).is_share
    y = spread([value for line in lines.values() for _, value in line], percent=share)
    caption = f"validation {own}{' in %' if share else ''}"
    plot = Plot(Axis(1, max(len(rows), 2), "epoch"), y, caption, width=480, height=280, right=90)
    for i, (name, line) in enumerate(lines.items()):
        style = Style(INK, "", 2.2) if name == "fused" else style_of(i)
        plot.line(line, style, name)
        plot.end(line[-1][1], name[:14], style.colour)
    return _standalone(plot.picture().svg(), plot.caption, plot.width, plot.height)


def curves_of_arm(records: Sequence[TrialRecord], objective: str) -> str:
    """Return the objective over epochs of all of an arm's trials: search dark, pruned pale, the others coloured."""
    looks = {"search": Style(INK, "", 1.2), "select": style_of(0), "confirm": style_of(1)}
    curves = [(r, list(r.curve.items())) for r in records if r.curve]
    share = Objective(objective).is_share
    y = spread([v for _, c in curves for _, v in c], percent=share)
    last = max((epoch for _, c in curves for epoch, _ in c), default=2)
    caption = (
        f"{objective}{' in %' if share else ''}: search black (stopped ones grey), selection blue, confirmation red"
    )
    plot = Plot(Axis(1, max(last, 2), "epoch"), y, caption, width=560, height=320)
    for r, curve in sorted(curves, key=lambda c: c[0].phase == "search", reverse=True):
        style = Style(FAINT, "", 1.0) if r.state != "complete" else looks[r.phase]
        plot.line(curve, style, f"{r.phase} {r.number}: {r.state}")
    return _standalone(plot.picture().svg(), caption, plot.width, plot.height)


def matrix(table: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Return a confusion matrix: a row is a true class, a column the class given, shade the share of the row."""
    cell = 34 if len(classes) <= 20 else 14
    left, top, side = 90, 60, cell * len(classes)
    parts = []
    for i, row in enumerate(table):
        total = sum(row) or 1
        parts.append(_label(left - 6, top + cell * (i + 0.65), classes[i], "end"))
        parts.append(
            _label(left + cell * (i + 0.5), top - 8, classes[i], "middle" if cell > 20 else "start", cell <= 20)
        )
        for j, count in enumerate(row):
            share, x, y = count / total, left + cell * j, top + cell * i
            title = f"<title>{escape(classes[i])} taken for {escape(classes[j])}: {count}</title>"
            paint = f'fill="#0072B2" fill-opacity="{share:.3f}" stroke="#e3e7eb"'
            parts.append(f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" {paint}>{title}</rect>')
            if count and cell > 20:
                ink = "#fff" if share > 0.5 else INK
                middle = f'x="{x + cell / 2}" y="{y + cell * 0.62}" text-anchor="middle"'
                parts.append(f'<text {middle} fill="{ink}">{count}</text>')
    width, height = left + side + 20, top + side + 10
    return _standalone("".join(parts), "test rows: true class downwards, given class across", width, height)


def table_of_classes(table: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Return rows, accuracy, precision and F1 of every class as CSV."""
    from balance_tune.training.details import by_class

    text = io.StringIO()
    rows = by_class(table, classes)
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _standalone(svg: str, title: str, width: int, height: int) -> str:
    """Return a chart as an SVG file of its own, with a title and the styles of the report's page."""
    head = 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + head}" width="{width}" '
        f'height="{height + head}" font-family="system-ui, sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="15" fill="{SOFT}">{escape(title)}</text>'
        f'<g transform="translate(0 {head})">{svg}</g></svg>\n'
    )


def _label(x: float, y: float, name: str, anchor: str, turned: bool = False) -> str:
    turn = f' transform="rotate(-60 {x} {y})"' if turned else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{SOFT}"{turn}>{escape(name[:13])}</text>'
