"""Turns a study's numbers into charts: one function a figure, each returning SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from balance_tune.studies.protocol.keys import BASELINE
from balance_tune.studies.results.columns import percent
from balance_tune.studies.results.findings import score_text
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report.charts import (
    FAINT,
    INK,
    SOFT,
    Axis,
    Place,
    Plot,
    Style,
    number,
    shorten,
    spread,
    style_of,
    text_width,
)
from balance_tune.studies.results.report.sources import Sources
from balance_tune.studies.results.robustness import Robustness
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import Objective

MAX_NAMED = 6  # lines a chart names; more could not be distinguished
NAME = 14  # characters of a method's name inside a chart
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


def learning_curves(sources: Sources, row: LeaderboardRow, modalities: Sequence[str], y: Axis) -> str:
    """Return an arm's objective over epochs, fused and per modality where both are shares, at its chosen point."""
    runs = [sources.history(r) for r in sources.shown(row)]
    objective = row.objective
    plot = Plot(_epochs(runs), y, f"Learning curves of {row.arm}", height=190)
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
    return plot.svg()


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
    return spread(values, percent=_is_share(rows))


def gap_over_epochs(sources: Sources, rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> str:
    """Return the modality gap over epochs of joint training and of the balanced arms, each at its chosen point."""
    curves = {
        row.method: mean_curve([sources.history(r) for r in sources.shown(row)], "val/gap")[0]
        for row in rows
        if not row.diagnostic
    }
    curves = {method: curve for method, curve in curves.items() if curve}
    last = max((curve[-1][0] for curve in curves.values()), default=1)
    named = [m for m in curves if m != BASELINE][:MAX_NAMED] + [m for m in curves if m == BASELINE]
    plot = Plot(
        Axis(1, max(last, 2), "epoch"),
        spread([0.0, *(y for curve in curves.values() for _, y in curve)], percent=True),
        "Modality gap over epochs, joint training against balanced methods",
        right=_room(named),
        height=230,
    )
    for method in [m for m in curves if m not in named] + named:
        look = looks[method] if method in named else Style(FAINT)
        plot.line(curves[method], look, method)
        _hover(plot, curves[method], method, look.colour)
        if method in named:
            plot.end(curves[method][-1][1], shorten(method, NAME), look.colour)
    return plot.svg()


def trade_off(rows: Sequence[LeaderboardRow], looks: Mapping[str, Style], against: str) -> str:
    """Return validation accuracy on the confirmation seeds against "gap" or "seconds", with the Pareto front dashed."""
    shown = [row for row in rows if row.val_confirm is not None and cost_of(row, against) is not None]
    if against == "gap":  # one modality alone closes no gap
        shown = [row for row in shown if not row.diagnostic]
    places = {row.method: (float(cost_of(row, against) or 0.0), row.val_confirm or 0.0) for row in shown}
    label = "modality gap, points" if against == "gap" else "device-seconds a run"
    xs = [x for x, _ in places.values()]
    log = against == "seconds" and bool(xs) and min(xs) > 0 and max(xs) > 8 * min(xs)
    plot = Plot(
        spread(xs, label, log=log, percent=against == "gap"),
        spread([y for _, y in places.values()], percent=_is_share(rows)),
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
    for row in shown:
        plot.name(places[row.method], shorten(row.method, NAME), looks[row.method].colour)
    return plot.svg()


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


def anytime(sources: Sources, rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> str:
    """Return the best validation value so far against device-seconds spent on an arm's search, trial after trial."""
    curves: dict[str, Curve] = {}
    for row in rows:
        spent, best, curve = 0.0, None, []
        for r in sources.arm(row):
            if r.phase != "search" or not r.finished or r.superseded:
                continue
            spent += r.device_seconds
            value = r.value if r.state == "complete" else _best(list(r.curve.values()), sources)
            if value is not None and (
                best is None or sources.rule.objective.gain(value) > sources.rule.objective.gain(best)
            ):
                best = value
            if best is not None:
                curve.append((spent, best))
        if curve:
            curves[row.method] = curve
    end = max((curve[-1][0] for curve in curves.values()), default=1.0)
    named = [m for m in curves if m != BASELINE][:MAX_NAMED] + [m for m in curves if m == BASELINE]
    plot = Plot(
        Axis(0, end, "device-seconds of search"),
        spread([y for curve in curves.values() for _, y in curve], percent=_is_share(rows)),
        "Best validation value so far against device-seconds",
        right=_room(named),
        height=230,
    )
    for method in [m for m in curves if m not in named] + named:
        look = looks[method] if method in named else Style(FAINT)
        curve = curves[method]
        plot.line(curve, look, method, step=True)
        for i, (x, y) in enumerate(curve):
            if i == 0 or y != curve[i - 1][1]:
                plot.dot(
                    (x, y),
                    look.colour,
                    f"{method}: {rows[0].objective.text_with_unit(y)} after {number(x)} device-seconds",
                    radius=2,
                )
        plot.line([curve[-1], (end, curve[-1][1])], Style(look.colour, "1 3", 0.9))
        if method in named:
            plot.end(curve[-1][1], shorten(method, NAME), look.colour)
    return plot.svg()


def robustness_curves(
    rows: Sequence[LeaderboardRow], robustness: Mapping[str, Sequence[Robustness]], looks: Mapping[str, Style]
) -> dict[str, str]:
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
    y = spread([r.mean for results in shown.values() for r in results], percent=metric.is_share)
    x = Axis(0, 1, "missing rate, %", percent=True)
    charts = {}
    for modality in dict.fromkeys(r.modality for results in shown.values() for r in results):
        plot = Plot(x, y, f"Test {metric} of {rows[0].dataset} with {modality} missing", right=_room(named), height=210)
        for method in [m for m in shown if m not in named] + named:
            look = looks[method] if method in named else Style(FAINT)
            curve = sorted((r.rate, r.mean) for r in shown[method] if r.modality == modality)
            plot.line(curve, look, method)
            for rate, value in curve:
                text = f"{method}: {metric.text_with_unit(value)} with {modality} missing at {percent(rate, 0)} %"
                plot.dot((rate, value), look.colour, text, radius=2)
            if method in named:
                plot.end(curve[-1][1], shorten(method, NAME), look.colour)
        charts[modality] = plot.svg()
    return charts


def search_curves(sources: Sources, row: LeaderboardRow) -> str:
    """Return the curves of an arm's search trials: completed ones dark, stopped ones pale and ended by a ring."""
    trials = [r for r in sources.arm(row) if r.phase == "search" and r.curve][:80]
    late = [v for r in trials for e, v in r.curve.items() if e > 0.1 * max(r.curve)]
    last = max((max(r.curve) for r in trials), default=2)
    plot = Plot(
        Axis(1, max(last, 2)), spread(late, percent=_is_share([row])), f"Search trials of {row.arm}", height=150
    )
    for r in sorted(trials, key=lambda r: r.state == "complete"):
        curve = [(float(e), v) for e, v in r.curve.items()]
        title = f"trial {r.number}: {r.state}, {_params(r)}"
        plot.line(
            curve, Style(SOFT if r.state == "complete" else FAINT, "", 1.3 if r.state == "complete" else 1.0), title
        )
        if r.state == "pruned":
            plot.dot(curve[-1], FAINT, f"trial {r.number} stopped after epoch {r.epochs}", shape="ring", radius=2.2)
        elif r.state == "failed":
            plot.dot(curve[-1], "#D55E00", f"trial {r.number} failed: {r.attrs.get('reason', '')}", shape="cross")
    return plot.svg()


def slices(sources: Sources, row: LeaderboardRow, look: Style) -> dict[str, str]:
    """Return parameter -> chart of the objective over that parameter, all other parameters as they came.

    Stopped and failed trials lie on the bottom edge: what a trial had reached when it was stopped compares with none.
    """
    trials = [r for r in sources.arm(row) if r.phase == "search" and r.params and r.finished]
    worth = {r.number: r.value if r.state == "complete" else _best(list(r.curve.values()), sources) for r in trials}
    y = spread([r.value for r in trials if r.state == "complete" and r.value is not None], percent=_is_share([row]))
    y = replace(y, low=y.low - 0.2 * (y.high - y.low))  # room for what did not complete, at the bottom
    space = {name: range_ for r in trials for name, range_ in r.space.items()}
    charts: dict[str, str] = {}
    for name, range_ in space.items():
        names = tuple(str(c) for c in range_.choices or ())
        with_value = [r for r in trials if name in r.params]
        if names:
            x = Axis(-0.5, len(names) - 0.5, names=names)
        elif range_.low is not None and range_.high is not None and range_.high > range_.low:
            x = Axis(range_.low, range_.high, log=range_.log)
        else:
            continue
        plot = Plot(x, y, f"{row.arm}: validation against {name}", width=170, height=124, left=34, right=10)
        for r in with_value:
            value = worth[r.number]
            across = float(names.index(str(r.params[name]))) if names else float(r.params[name])
            place = (across, value if r.state == "complete" and value is not None else y.low)
            shape = {"complete": "disc", "pruned": "ring", "failed": "cross"}[r.state]
            text = f"trial {r.number}, {name} {_value(r.params[name])}: " + (
                f"{row.objective.text_with_unit(value)} ({r.state})"
                if value is not None and r.state != "failed"
                else r.state
            )
            plot.dot(place, look.colour if r.state == "complete" else SOFT, text, shape=shape, radius=2.8)
            if r.attrs.get("default"):
                plot.dot(place, INK, f"the default, {_value(r.params[name])}", shape="square", radius=5.5)
        if row.params and name in row.params:
            chosen = row.params[name]
            plot.rule(x=float(names.index(str(chosen))) if names else float(chosen), title=f"chosen: {_value(chosen)}")
        charts[name] = plot.svg()
    return charts


def _best(values: Sequence[float], sources: Sources) -> float | None:
    return sources.rule.objective.best(values)


def _epochs(runs: Sequence[Sequence[Mapping[str, Any]]]) -> Axis:
    return Axis(1, max([2, *(int(h["epoch"]) for run in runs for h in run)]), "epoch")


def _hover(plot: Plot, curve: Curve, name: str, colour: str, row: LeaderboardRow | None = None) -> None:
    """Let every point of a curve answer the pointer; long curves at every few epochs."""
    for epoch, value in curve[:: max(1, len(curve) // 40)]:
        plot.dot(
            (epoch, value),
            colour,
            f"{name}, epoch {epoch:.0f}: {row.objective.text_with_unit(value) if row else f'{percent(value)} %'}",
            shape="none",
        )


def _room(names: Sequence[str]) -> int:
    return 14 + round(max((text_width(shorten(name, NAME)) for name in names), default=0))


def _is_share(rows: Sequence[LeaderboardRow]) -> bool:
    return all(row.objective.is_share for row in rows)


def _same_unit(objective: Objective) -> bool:
    """Return whether an objective and its values by modality can share an axis."""
    own = objective.by_modality
    return (objective.is_share and own.is_share) or objective == f"val/{own}"


def _params(record: TrialRecord) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in record.params.items())


def _value(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
