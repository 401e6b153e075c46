"""Which figures of a report are written as files, and how their panels are laid out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from balance_tune.studies.results.findings import by_table, ranking
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report import comparisons, figures, search_figures
from balance_tune.studies.results.report.charts import INK, Style
from balance_tune.studies.results.report.paper import Sheet
from balance_tune.studies.results.report.shapes import Picture
from balance_tune.studies.results.report.sources import Sources

WIDE, NARROW = 340, 226  # pixels of a panel: two, or three, of them are as wide as a page's text
MANY = 8  # arms from which on panels are narrow
PAGE = 15  # narrow panels of one file; more would not fit on a page


def sheets(sources: Sources) -> dict[str, Sheet]:
    """Return name -> figure, of each dataset and of all datasets together, with the results so far."""
    looks = figures.styles(sources.rows)
    result: dict[str, Sheet] = {}
    for (protocol, dataset), rows in by_table(sources.rows).items():
        suffix = dataset if protocol == "sealed" else f"{dataset}-{protocol}"
        result |= {f"{name}-{suffix}": sheet for name, sheet in _of_dataset(sources, rows, looks).items()}
    if sources.summary is not None:
        result["interquartile_means"] = Sheet([("", comparisons.interquartile_means(sources.summary, looks))])
        result["performance_profiles"] = Sheet([("", comparisons.profiles(sources.summary, looks))])
    ranked = ranking(sources.rows)
    if ranked is not None and ranked.tested.critical is not None:
        result["critical_difference"] = Sheet([("", comparisons.critical_difference(ranked.tested))])
    return result


def _of_dataset(sources: Sources, rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> dict[str, Sheet]:
    modalities = sources.modalities(rows)
    by_modality = list(figures.modality_styles(modalities).items())
    y = figures.learning_axis(sources, rows, modalities)
    width = NARROW if len(rows) > MANY else WIDE
    learning = [(row.method, figures.learning_curves(sources, row, modalities, y, width)) for row in rows]
    coefficients = [
        (f"{row.method}: {name}", picture)
        for row in rows
        for name, picture in figures.coefficients(sources, row, modalities, width).items()
    ]
    robustness = figures.robustness_curves(rows, {row.method: sources.robustness(row) for row in rows}, looks)
    panels: dict[str, list[tuple[str, Picture]]] = {
        "intervals": [("", p) for p in [comparisons.leaderboard_intervals(rows, looks)] if p is not None],
        "modality_gap": [("", figures.gap_over_epochs(sources, rows, looks))],
        "search_progress": [("", search_figures.anytime(sources, rows, looks))],
        "search_trials": [(row.method, search_figures.search_curves(sources, row, width)) for row in rows],
        "robustness": [(f"{modality} missing", picture) for modality, picture in robustness.items()],
    }
    if any(row.val_confirm is not None for row in rows):
        panels["score_and_gap"] = [("", figures.trade_off(rows, looks, "gap"))]
        panels["score_and_cost"] = [("", figures.trade_off(rows, looks, "seconds"))]
    result: dict[str, Sheet] = {}
    for name, own in panels.items():
        result |= _pages(name, own)
    result |= _pages("learning_curves", learning, [("fused", Style(INK, "", 2.2)), *by_modality])
    result |= _pages("coefficients", coefficients, by_modality)
    for row in rows:
        slices = search_figures.slices(sources, row, looks[row.method])
        if slices:
            result[f"sensitivity-{row.method}"] = Sheet(list(slices.items()), columns=4)
    return result


def _pages(
    name: str, panels: Sequence[tuple[str, Picture]], legend: Sequence[tuple[str, Style]] = ()
) -> dict[str, Sheet]:
    """Return a figure as one sheet, or as several (`NAME`, `NAME_2`, ...) of as many panels as fit on a page."""
    starts = range(0, len(panels), PAGE)
    columns = 3 if panels and panels[0][1].width == NARROW else 2
    pages = [Sheet(panels[start : start + PAGE], legend, columns) for start in starts]
    return {name if k == 1 else f"{name}_{k}": page for k, page in enumerate(pages, 1)}
