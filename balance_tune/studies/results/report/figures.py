"""Turns a study's numbers into charts: one function a figure, each returning SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balance_tune.studies.protocol.keys import BASELINE, MATCHED
from balance_tune.studies.results.columns import percent
from balance_tune.studies.results.findings import score_text
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report.charts import (
    FAINT,
    INK,
    SOFT,
    Axis,
    Plot,
    Style,
    number,
    shorten,
    spread,
    style_of,
)
from balance_tune.studies.results.report.shapes import Picture, Place, text_width
from balance_tune.studies.results.report.sources import Sources
from balance_tune.studies.results.robustness import Robustness
from balance_tune.tasks import Objective

MAX_NAMED = 6  # lines a chart names; more could not be distinguished
NAME = 18  # characters of a method's name inside a chart
Curve = list[Place]


def styles(rows: Sequence[LeaderboardRow]) -> dict[str, Style]:
    """Return the look of every method, the same in all figures: black is the baseline, grey the diagnostic arms."""
    looks: dict[str, Style] = {}
    for row in sorted(rows, key=lambda row: row.method):
        if row.baseline:
            looks[row.method] = Style(INK, "", 2.2)
        elif row.diagnostic:
            looks[row.method] = Style(SOFT, "2 3")
    for method in dict.fromkeys(row.method for row in rows):
        if method not in looks:
            looks[method] = style_of(sum(look.colour not in (INK, SOFT) for look in looks.values()))
    return looks


def modality_styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the look of every modality of a dataset; black is their fusion."""
    return {name: style_of(i) for i, name in enumerate(names)}


def mean_curve(runs: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> tuple[Curve, Curve, Curve]:
    """Return mean, lowest and highest of a metric over runs, epoch by epoch, as far as all runs go."""
    values = [{int(h["epoch"]): float(h[metric]) for h in run if h.get(metric) is not None} for run in runs]
    common = sorted(set.intersection(*(set(v) for v in values))) if values else []
    at = {epoch: [v[epoch] for v in values] for epoch in common}
    return (
        [(e, sum(v) / len(v)) for e, v in at.items()],
        [(e, min(v)) for e, v in at.items()],
        [(e, max(v)) for e, v in at.items()],
    )


def learning_curves(
    sources: Sources, row: LeaderboardRow, modalities: Sequence[str], y: Axis, width: int = 340
) -> Picture:
    """Return an arm's objective over epochs, fused and per modality where both are shares, at its chosen point."""
    runs = [sources.history(r) for r in sources.shown(row)]
    objective = row.objective
    plot = Plot(_epochs(runs), y, f"Learning curves of {row.arm}", width, height=190)
    looks = modality_styles(modalities)
    for name in modalities if _same_unit(objective) else ():
        mean, _, _ = mean_curve(runs, f"val/{objective.by_modality}/{name}")
        plot.line(mean, looks[name], name)
        _hover(plot, mean, name, looks[name].colour, row)
    mean, low, high = mean_curve(runs, objective)
    if len(runs) > 1 and mean:
        plot.band(low, high, INK)
    plot.line(mean, Style(INK, "", 2.2), "fused")
    _hover(plot, mean, "fused", INK, row)
    return plot.picture()


def learning_axis(sources: Sources, rows: Sequence[LeaderboardRow], modalities: Sequence[str]) -> Axis:
    """Return one vertical axis for all arms of a dataset, which leaves out the first steep epochs."""
    values: list[float] = []
    for row in rows:
        for record in sources.shown(row):
            history = sources.history(record)
            late = [h for h in history if h["epoch"] > 0.15 * len(history)]
            objective = row.objective
            own = [f"val/{objective.by_modality}/{m}" for m in modalities] if _same_unit(objective) else []
            names = [objective, *own]
            values += [float(h[n]) for h in late for n in names if h.get(n) is not None]
    return spread(values, axis_label(rows[0].objective), percent=is_share(rows))


def coefficients(
    sources: Sources, row: LeaderboardRow, modalities: Sequence[str], width: int = 340
) -> dict[str, Picture]:
    """Return name -> chart over epochs of each coefficient that an arm's method records for single modalities.

    A line is the mean over the runs at the chosen point, a band reaches from the lowest to the highest run.
    """
    runs = [sources.history(r) for r in sources.shown(row)]
    recorded = dict.fromkeys(name for run in runs for h in run for name in h if name.startswith("modulation/"))
    by_name: dict[str, list[str]] = {}
    for metric in recorded:
        _, name, *modality = metric.split("/")
        if modality:
            by_name.setdefault(name, []).append(modality[0])
    charts = {}
    for name, own in by_name.items():
        looks = modality_styles([*modalities, *(m for m in own if m not in modalities)])
        curves = {m: mean_curve(runs, f"modulation/{name}/{m}") for m in own}
        values = [y for curve in curves.values() for edge in curve for _, y in edge]
        if not values:
            continue
        plot = Plot(_epochs(runs), spread(values), f"{name} of {row.arm} over epochs", width, height=170)
        for m, (mean, low, high) in curves.items():
            if len(runs) > 1:
                plot.band(low, high, looks[m].colour)
            plot.line(mean, looks[m], m)
            for epoch, value in mean[:: max(1, len(mean) // 40)]:
                text = f"{name} of {m}, epoch {epoch:.0f}: {number(value)}"
                plot.dot((epoch, value), looks[m].colour, text, shape="none")
        charts[name] = plot.picture()
    return charts


def gap_over_epochs(sources: Sources, rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> Picture:
    """Return the modality gap over epochs of joint training and of the balanced arms, each at its chosen point."""
    curves = {
        row.method: mean_curve([sources.history(r) for r in sources.shown(row)], "val/gap")[0]
        for row in rows
        if not row.diagnostic
    }
    curves = {method: curve for method, curve in curves.items() if curve}
    last = max((curve[-1][0] for method, curve in curves.items() if method != MATCHED), default=1)
    curves = {method: own for method, curve in curves.items() if (own := [(x, y) for x, y in curve if x <= last])}
    named = [m for m in curves if m != BASELINE][:MAX_NAMED] + [m for m in curves if m == BASELINE]
    plot = Plot(
        Axis(1, max(last, 2), "epoch", whole=True),
        spread([0.0, *(y for curve in curves.values() for _, y in curve)], "modality gap, points", percent=True),
        "Modality gap over epochs, joint training against balanced methods",
        right=room(named),
        height=230,
    )
    for method in [m for m in curves if m not in named] + named:
        look = looks[method] if method in named else Style(FAINT)
        plot.line(curves[method], look, method)
        _hover(plot, curves[method], method, look.colour)
        if method in named:
            plot.end(curves[method][-1][1], shorten(method, NAME), look.colour)
    return plot.picture()


def trade_off(rows: Sequence[LeaderboardRow], looks: Mapping[str, Style], against: str) -> Picture:
    """Return validation accuracy on the confirmation seeds against "gap" or "seconds", with the Pareto front dashed."""
    shown = [row for row in rows if row.val_confirm is not None and cost_of(row, against) is not None]
    if against == "gap":  # one modality alone closes no gap
        shown = [row for row in shown if not row.diagnostic]
    places = {row.method: (float(cost_of(row, against) or 0.0), row.val_confirm or 0.0) for row in shown}
    label = "modality gap, points" if against == "gap" else "device-seconds per run"
    xs = [x for x, _ in places.values()]
    log = against == "seconds" and bool(xs) and min(xs) > 0 and max(xs) > 8 * min(xs)
    plot = Plot(
        spread(xs, label, log=log, percent=against == "gap"),
        spread([y for _, y in places.values()], axis_label(rows[0].objective), percent=is_share(rows)),
        f"Validation score against {label}",
        height=230,
        right=24,
    )
    front = pareto(list(places.values()), rows[0].objective)
    plot.line(front, Style(FAINT, "3 3"), "no arm is better in both", step=True)
    for row in shown:
        x, y = places[row.method]
        test = f", test {score_text(row)}" if row.test_mean is not None else ""
        paid = f"{label} {number(100 * x if against == 'gap' else x)}"
        text = f"{row.method}: validation {row.objective.text_with_unit(y)}, {paid}{test}"
        plot.dot((x, y), looks[row.method].colour, text, radius=4.2)
    for row in sorted(shown, key=lambda row: plot.at(places[row.method])[1]):  # from the top: lines to names cross less
        plot.name(places[row.method], shorten(row.method, NAME), looks[row.method].colour)
    return plot.picture()


def cost_of(row: LeaderboardRow, against: str) -> float | None:
    """Return what an arm pays: its modality gap, or the mean device-seconds of its select and confirm runs."""
    trials, seconds = int(row.confirm_trials), float(row.confirm_device_seconds)
    if against == "gap":
        return None if row.gap is None else float(row.gap)
    return seconds / trials if trials else None


def pareto(places: Sequence[Place], objective: Objective) -> list[Place]:
    """Return the places that no other beats in both, a small x and a good y, by rising x."""
    front: list[Place] = []
    for x, y in sorted(places, key=lambda p: (p[0], -objective.gain(p[1]))):
        if not front or objective.gain(y) > objective.gain(front[-1][1]):
            front.append((x, y))
    return front


def robustness_curves(
    rows: Sequence[LeaderboardRow], robustness: Mapping[str, Sequence[Robustness]], looks: Mapping[str, Style]
) -> dict[str, Picture]:
    """Return modality (or "all") -> chart of each arm's test metric against the rate at which it is missing.

    Args:
        rows: of one dataset under one protocol.
        robustness: method -> its results.
        looks: method -> style.
    """
    metric = rows[0].metric
    shown = {method: [r for r in results if r.metric == metric] for method, results in robustness.items()}
    shown = {method: results for method, results in shown.items() if results}
    named = [m for m in shown if m != BASELINE][:MAX_NAMED] + [m for m in shown if m == BASELINE]
    y = spread([r.mean for results in shown.values() for r in results], axis_label(metric), percent=metric.is_share)
    x = Axis(0, 1, "missing rate, %", percent=True)
    charts = {}
    for modality in dict.fromkeys(r.modality for results in shown.values() for r in results):
        plot = Plot(x, y, f"Test {metric} of {rows[0].dataset} with {modality} missing", right=room(named), height=210)
        for method in [m for m in shown if m not in named] + named:
            look = looks[method] if method in named else Style(FAINT)
            curve = sorted((r.rate, r.mean) for r in shown[method] if r.modality == modality)
            plot.line(curve, look, method)
            for rate, value in curve:
                text = f"{method}: {metric.text_with_unit(value)} with {modality} missing at {percent(rate, 0)} %"
                plot.dot((rate, value), look.colour, text, radius=2)
            if method in named:
                plot.end(curve[-1][1], shorten(method, NAME), look.colour)
        charts[modality] = plot.picture()
    return charts


def _epochs(runs: Sequence[Sequence[Mapping[str, Any]]]) -> Axis:
    return Axis(1, max([2, *(int(h["epoch"]) for run in runs for h in run)]), "epoch", whole=True)


def _hover(plot: Plot, curve: Curve, name: str, colour: str, row: LeaderboardRow | None = None) -> None:
    """Let every point of a curve answer the pointer; long curves at every few epochs."""
    for epoch, value in curve[:: max(1, len(curve) // 40)]:
        plot.dot(
            (epoch, value),
            colour,
            f"{name}, epoch {epoch:.0f}: {row.objective.text_with_unit(value) if row else f'{percent(value)} %'}",
            shape="none",
        )


def room(names: Sequence[str]) -> int:
    """Return how many pixels names at the ends of lines need."""
    return 14 + round(max((text_width(shorten(name, NAME)) for name in names), default=0))


def is_share(rows: Sequence[LeaderboardRow]) -> bool:
    """Return whether the objectives of rows are shares, which axes show in %."""
    return all(row.objective.is_share for row in rows)


def axis_label(metric: Objective) -> str:
    """Return what an axis of a metric says: "validation accuracy, %" of an objective, "test accuracy, %" of a test."""
    part = "validation" if metric.startswith("val/") else "test"
    name = metric.removeprefix("val/").replace("_", " ")
    return f"{part} {name}{', %' if metric.is_share else ''}"


def _same_unit(objective: Objective) -> bool:
    """Return whether an objective and its values by modality can share an axis."""
    own = objective.by_modality
    return (objective.is_share and own.is_share) or objective == f"val/{own}"
