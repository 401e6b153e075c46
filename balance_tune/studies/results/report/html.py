"""Assembles the report: gathers what each section shows and renders the page template with it."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from balance_tune.datasets.augmentation import described, overridden
from balance_tune.datasets.modality import Modality
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.missing import Missing
from balance_tune.studies.results import summary
from balance_tune.studies.results.columns import SETTINGS, interval, p_text, percent
from balance_tune.studies.results.findings import RANKS_NEEDED, Ranking, answer, by_table, ranking, remarks
from balance_tune.studies.results.latex import selection_in_words
from balance_tune.studies.results.leaderboard import COLUMNS, LeaderboardRow
from balance_tune.studies.results.report import comparisons, figures, paper, search_figures
from balance_tune.studies.results.report.cautions import cautions
from balance_tune.studies.results.report.charts import INK, SOFT, Axis, Style, interval_axis, interval_mark, key, number
from balance_tune.studies.results.report.importance import FEWEST, importances
from balance_tune.studies.results.report.published import hearsay
from balance_tune.studies.results.report.sheets import sheets
from balance_tune.studies.results.report.sources import Sources, gather
from balance_tune.studies.results.robustness import as_csv
from balance_tune.studies.results.tables import PROTOCOLS, heading, units, write_files
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import TrialRecord, cell_of
from balance_tune.tasks import Objective

PACKAGES = ("balance_tune", "torch", "ray", "optuna", "mlflow", "numpy")
SLICES = 6  # parameters drawn per arm, the most important first
SHOWN_DECISIONS = 2000  # decisions shown; the file has all


def write(study_folder: Path | str, *, drawings: bool = False) -> Path:
    """Write the report of a study, finished or not, into its folder `report`; return the page's path.

    `index.html` is the page, `leaderboard.*` its numbers. `robustness.csv` is there where modalities are missing from
    test rows (`missing.test`), `summary.csv` of several datasets.

    Args:
        study_folder: of the study.
        drawings: write each figure as `figures/NAME.svg` and `.pdf` too, which takes some seconds.

    Raises:
        UserError: there is no study in this folder, or one of its files cannot be read.
    """
    sources = gather(study_folder)
    write_files(sources.folder, sources.rows)
    robustness = [result for row in sources.rows for result in sources.robustness(row)]
    if robustness:
        durable.write(sources.folder / "report" / "robustness.csv", as_csv(robustness))
    if sources.summary is not None:
        durable.write(sources.folder / "report" / "summary.csv", summary.as_csv(sources.summary))
    page = sources.folder / "report" / "index.html"
    durable.write(page, render(sources))
    if drawings:
        paper.write(page.parent / "figures", sheets(sources))
    return page


def render(sources: Sources, progress: Markup | None = None) -> str:
    """Return the page: one HTML text with its style and figures inside, no script, nothing fetched.

    Args:
        sources: what the study holds.
        progress: HTML that is shown above all sections.
    """
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        pct=percent,
        score=lambda value, metric: Objective(metric).text(value),
        difference=lambda value, metric: Objective(metric).difference(value),
        p=p_text,
        interval=interval,
        num=_number,
        duration=duration,
        code=_code,
        svg=lambda figure: Markup(figure if isinstance(figure, str) else figure.svg()),
    )
    looks, ranked = figures.styles(sources.rows), ranking(sources.rows)
    tables = [_table(sources, rows, looks) for rows in by_table(sources.rows).values()]
    style = Markup((here / "page.css").read_text("utf-8"))
    return environment.get_template("page.html.j2").render(
        style=style,
        progress=progress,
        name=sources.config.get("name") or sources.folder.name,
        made=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        facts=_facts(sources),
        runs="replicates" if any(row.replicates > 1 for row in sources.rows) else "confirmation seeds",
        tables=tables,
        hearsay=hearsay(sources.rows, sources.config),
        ranking=ranked,
        across=_across(sources, ranked, looks),
        remarks=[*remarks(sources.rows), *cautions(sources)],
        columns=[column for column in COLUMNS.values() if column.unit is not SETTINGS],
        rungs=_rungs(sources),
        decisions=sources.decisions[-SHOWN_DECISIONS:],
        decisions_total=len(sources.decisions),
        fairness=_fairness(sources.rows),
        total=_total(sources.rows),
        failures=_failures(sources),
        importance=_importance_table(tables),
        fewest=FEWEST,
        rule=sources.rule,
        selection=selection_in_words(sources.rule),
        replicates=max((row.replicates for row in sources.rows), default=1),
        placebo=any(row.placebo for row in sources.rows),
        objective=sources.rule.objective,
        units=units(sources.rows),
        protocol=sources.config.get("protocol") or "sealed",
        data=[_data(name, manifest, sources.config) for name, manifest in sources.manifests.items()],
        most_drawn=sources.most_drawn if any(row.trials > sources.most_drawn for row in sources.rows) else 0,
        versions=_versions(sources.begun),
        begun=sources.begun.get("begun", ""),
        code=(sources.begun.get("code") or {}).items(),
        extensions=sources.begun.get("extensions") or [],
        price=sources.config.get("price_per_device_hour"),
        study_file=strict_yaml.dump(sources.config) if sources.config else "",
        keys={
            shape: key(Style(INK if shape != "ring" else SOFT), shape) for shape in ("disc", "ring", "cross", "square")
        },
    )


def _table(sources: Sources, rows: list[LeaderboardRow], looks: Mapping[str, Style]) -> dict[str, Any]:
    """Return what the page shows of one dataset under one protocol."""
    dataset, protocol = rows[0].dataset, rows[0].protocol
    modalities = sources.modalities(rows)
    y = figures.learning_axis(sources, rows, modalities)
    axis = comparisons.difference_axis(rows)
    shares = {row.method: importances(sources.arm(row), row.objective) for row in rows}
    arms = []
    for row in rows:
        charts = search_figures.slices(sources, row, looks[row.method])
        ordered = [*shares[row.method], *(name for name in charts if name not in shares[row.method])]
        arms.append(
            {
                "row": row,
                "key": key(looks[row.method]),
                "mark": _mark(row, axis, looks[row.method]),
                "learning": figures.learning_curves(sources, row, modalities, y),
                "coefficients": figures.coefficients(sources, row, modalities),
                "runs": len(sources.shown(row)),
                "search": search_figures.search_curves(sources, row),
                "slices": [(n, shares[row.method].get(n), charts[n]) for n in ordered if n in charts][:SLICES],
                "hidden": max(0, len(charts) - SLICES),
                "params": _params(sources, row),
            }
        )
    return {
        "dataset": dataset,
        "protocol": protocol,
        "heading": heading(rows).removeprefix(PROTOCOLS["paper"] + ", "),
        "answer": answer(dataset, rows, protocol),
        "warning": PROTOCOLS["paper"] if protocol == "paper" else "",
        "arms": arms,
        "coefficients": any(arm["coefficients"] for arm in arms),
        "scale": interval_axis(axis),
        "compared": any(row.delta is not None for row in rows),
        "legend": [(name, key(look)) for name, look in figures.modality_styles(modalities).items()],
        "fused": key(Style(INK, "", 2.2)),
        "gap": figures.gap_over_epochs(sources, rows, looks),
        "by_gap": figures.trade_off(rows, looks, "gap"),
        "by_cost": figures.trade_off(rows, looks, "seconds"),
        "confirmed_any": any(row.val_confirm is not None for row in rows),
        "anytime": search_figures.anytime(sources, rows, looks),
        "shares": shares,
        "robustness": figures.robustness_curves(rows, {row.method: sources.robustness(row) for row in rows}, looks),
    }


def _across(sources: Sources, ranked: Ranking | None, looks: Mapping[str, Style]) -> dict[str, Any]:
    """Return figures over all datasets, and the words that stand where there is none."""
    over = sources.summary
    tested = ranked is not None and ranked.tested.critical is not None
    return {
        "means": comparisons.interquartile_means(over, looks) if over else None,
        "profiles": comparisons.profiles(over, looks) if over else None,
        "datasets": ", ".join(over.datasets) if over else "",
        "needed": summary.NEEDED,
        "difference": comparisons.critical_difference(ranked.tested) if ranked is not None and tested else None,
        "ranks": ranked.words if ranked else RANKS_NEEDED,
    }


def _mark(row: LeaderboardRow, axis: Axis, look: Style) -> str:
    if row.delta is None:
        return ""
    low, high = row.delta_ci or (None, None)
    blind = row.mde_holm
    metric = row.metric
    unit = " points" if metric.is_share else ""
    text = f"{row.method}: {metric.difference(row.delta)}{unit}, 95 % interval {interval(row.delta_ci, metric)}"
    text += f"; differences below {metric.text(blind)}{unit} were likely to be missed" if blind is not None else ""
    return interval_mark(low, row.delta, high, axis, look.colour, blind, text)


def _params(sources: Sources, row: LeaderboardRow) -> list[dict[str, Any]]:
    """Return an arm's parameters: default with its source, what was chosen, what was searched."""
    own = sources.arm(row)
    default = next((r for r in own if r.attrs.get("default") and r.phase == "search"), None)
    space = {name: range_ for r in own for name, range_ in r.space.items()}
    params = []
    for name, range_ in space.items():
        value = (default.params if default else {}).get(name)
        searched = (
            ", ".join(map(str, range_.choices))
            if range_.choices
            else f"{_number(range_.low)} to {_number(range_.high)}{', log' if range_.log else ''}"
        )
        source = (default.attrs.get("sources") or {}).get(name, "") if default else ""
        chosen = (row.params or {}).get(name)
        params.append({"name": name, "default": value, "source": source, "chosen": chosen, "searched": searched})
    return params


def _facts(sources: Sources) -> list[str]:
    rows = sources.rows
    if not rows:
        return ["no trial has started yet"]
    datasets, methods = {row.dataset for row in rows}, {row.method for row in rows}
    trials, replicates = sorted({row.trials for row in rows}), max(row.replicates for row in rows)
    span = str(trials[0]) if len(trials) == 1 else f"{trials[0]} to {trials[-1]}"
    device = float(sum(row.device_seconds + row.confirm_device_seconds for row in rows))
    return [
        _count(len(datasets), "dataset"),
        _count(len(methods), "method"),
        *([_count(replicates, "replicate")] if replicates > 1 else []),
        f"{span} search trials per arm{' in all replicates' if replicates > 1 else ''}",
        _count(sources.rule.confirm_seeds, "confirmation seed") + (" in each" if replicates > 1 else ""),
        f"{duration(device)} of device time",
    ]


def _fairness(rows: Sequence[LeaderboardRow]) -> str:
    counts = Counter(row.trials for row in rows)
    if not counts:
        return ""
    if len(counts) == 1:
        return f"Every arm, the joint baseline included, had {next(iter(counts))} search trials."
    parts = ", ".join(f"{row.arm} {row.trials}" for row in rows)
    return f"The arms have not had the same number of search trials (yet): {parts}."


def _total(rows: Sequence[LeaderboardRow]) -> dict[str, Any]:
    names = ("trials", "complete", "pruned", "failed", "epochs", "device_seconds", "lost")
    later = ("confirm_trials", "confirm_epochs", "confirm_device_seconds")
    return {name: sum(row[name] for row in rows) for name in (*names, *later)}


def _failures(sources: Sources) -> list[dict[str, Any]]:
    failed = [r for r in sources.records if r.state == "failed"]
    return [
        {
            "arm": r.cell,
            "trial": f"{r.phase} {r.number}",
            "seed": r.seed,
            "reason": _reason(r),
        }
        for r in failed
    ]


def _reason(record: TrialRecord) -> str:
    if record.superseded and not record.retried:
        return "lost with its machine, run again"
    reason = str(record.attrs.get("reason") or "not recorded")
    return f"{reason} (run again)" if record.retried else reason


def _rungs(sources: Sources) -> dict[str, Any]:
    """Return the rung table: for every arm and rung how many trials of all replicates were judged and went on."""
    epochs = sorted({int(v["epoch"]) for v in sources.decisions})
    arms: dict[str, dict[int, list[str]]] = {}
    for decision in sources.decisions:
        arm, _ = cell_of(decision["arm"])
        arms.setdefault(arm, {}).setdefault(int(decision["epoch"]), []).append(decision["decision"])
    rows = []
    for row in sources.rows:
        judged = arms.get(row.arm, {})
        cells = [f"{len(d)} → {d.count('go')}" if (d := judged.get(epoch)) else "" for epoch in epochs]
        rows.append({"arm": row.arm, "first": min(judged, default=None), "cells": cells})
    return {"epochs": epochs, "rows": rows if epochs else []}


def _importance_table(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return method and parameter against dataset: share of importance, chosen value, default, range."""
    datasets = [t["dataset"] for t in tables if t["protocol"] == tables[0]["protocol"]] if tables else []
    cells_of: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for table in tables[: len(datasets)]:
        for arm in table["arms"]:
            shares = table["shares"][arm["row"].method]
            for param in arm["params"]:
                cell = {**param, "share": shares.get(param["name"])}
                cells_of.setdefault((arm["row"].method, param["name"]), {})[table["dataset"]] = cell
    methods = list(dict.fromkeys(method for method, _ in cells_of))
    lines = [
        {
            "method": method,
            "param": param,
            "searched": " or ".join(dict.fromkeys(cell["searched"] for cell in cells.values())),
            "source": " or ".join(dict.fromkeys(cell["source"] for cell in cells.values() if cell["source"])),
            "cells": [cells.get(d) for d in datasets],
        }
        for wanted in methods
        for (method, param), cells in cells_of.items()
        if method == wanted
    ]
    return {"datasets": datasets, "lines": lines}


def _data(name: str, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    identity = manifest.get("identity") or {}
    split = identity.get("split") or {}
    counts = {part: sum(by_class.values()) for part, by_class in (manifest.get("counts") or {}).items()}
    return {
        "name": name,
        "version": identity.get("version", "?"),
        "modalities": [
            f"{m} {'x'.join(map(str, s.get('shape', [])))}" for m, s in (identity.get("modalities") or {}).items()
        ],
        "transforms": _transforms(identity.get("modalities") or {}, config.get("augment") or {}),
        "missing": Missing.model_validate(config.get("missing") or {}).words(identity.get("modalities") or {}),
        "classes": len(identity.get("classes") or []),
        "counts": counts,
        "split": f"{split.get('kind', '?')}, seed {split.get('seed', '?')}",
        "groups": {part: len(groups) for part, groups in (manifest.get("groups") or {}).items()},
        "split_hash": str(manifest.get("split_hash", "?"))[:12],
        "data_hash": str(manifest.get("data_hash", "?"))[:12],
        "licence": manifest.get("licence", "?"),
        "limits": list(manifest.get("limits") or []),
    }


def _transforms(modalities: Mapping[str, Any], augment: Mapping[str, Any]) -> list[str]:
    """Return what is done to the samples of modalities in training and evaluation; nothing of those taken as stored."""
    try:
        declared = {m: Modality.of(entry) for m, entry in modalities.items()}
        words_of = {m: described(modality) for m, modality in overridden(declared, augment).items()}
    except (KeyError, TypeError, ValueError):  # a manifest of another version
        return []
    return [
        f"{m}: in training {words['training']}; in evaluation {words['evaluation']}"
        for m, words in words_of.items()
        if set(words.values()) != {"as stored"}
    ]


def _versions(begun: Mapping[str, Any]) -> dict[str, str]:
    """Return versions: those the study was begun with, where they are noted, and of the rest those that report."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    noted = {"balance_tune": begun.get("version"), **(begun.get("packages") or {})}
    return versions | {name: str(value) for name, value in noted.items() if value}


def duration(seconds: float | None) -> str:
    """Return seconds as a reader says them: 41 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _code(text: str) -> Markup:
    """Return text with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _number(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return "-" if value is None else str(value)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
