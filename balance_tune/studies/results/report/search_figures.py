"""Figures of an arm's search: progress, all trials, and the objective over each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from balance_tune.studies.protocol.keys import BASELINE
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report.charts import FAINT, INK, SOFT, Axis, Plot, Style, number, shorten, spread
from balance_tune.studies.results.report.figures import MAX_NAMED, NAME, Curve, axis_label, is_share, room
from balance_tune.studies.results.report.shapes import Picture
from balance_tune.studies.results.report.sources import Sources
from balance_tune.studies.storage.records import TrialRecord


def anytime(sources: Sources, rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> Picture:
    """Return the best validation value so far against device-seconds spent on an arm's search, trial after trial.

    Of several replicates, each of which is a search of its own, it is the mean.
    """
    curves: dict[str, Curve] = {}
    for row in rows:
        by_replicate: dict[int, list[TrialRecord]] = {}
        for r in sources.arm(row):
            if r.phase == "search" and r.finished and not r.superseded:
                by_replicate.setdefault(r.replicate, []).append(r)
        progress = [curve for own in by_replicate.values() if (curve := _progress(own, sources))]
        if progress:
            curves[row.method] = mean_progress(progress)
    end = max((curve[-1][0] for curve in curves.values()), default=1.0)
    named = [m for m in curves if m != BASELINE][:MAX_NAMED] + [m for m in curves if m == BASELINE]
    plot = Plot(
        Axis(0, end, "device-seconds of search"),
        spread(
            [y for curve in curves.values() for _, y in curve],
            f"best {axis_label(rows[0].objective)}",
            percent=is_share(rows),
        ),
        "Best validation value so far against device-seconds",
        right=room(named),
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
    return plot.picture()


def mean_progress(curves: Sequence[Curve]) -> Curve:
    """Return the mean of step curves, each of which holds its last value, from where all have begun."""
    begin = max(curve[0][0] for curve in curves)
    times = sorted({x for curve in curves for x, _ in curve if x >= begin})
    return [(t, sum([y for x, y in curve if x <= t][-1] for curve in curves) / len(curves)) for t in times]


def _progress(trials: Sequence[TrialRecord], sources: Sources) -> Curve:
    """Return (device-seconds spent, best value so far) after each trial of one search."""
    objective = sources.rule.objective
    spent, best, curve = 0.0, None, []
    for r in trials:
        spent += r.device_seconds
        value = sources.reached(r)
        if value is not None and (best is None or objective.gain(value) > objective.gain(best)):
            best = value
        if best is not None:
            curve.append((spent, best))
    return curve


def search_curves(sources: Sources, row: LeaderboardRow, width: int = 340) -> Picture:
    """Return the curves of an arm's search trials: completed ones dark, stopped ones pale and ended by a ring."""
    trials = [r for r in sources.search_trials(row) if r.curve]
    late = [v for r in trials for e, v in r.curve.items() if e > 0.1 * max(r.curve)]
    last = max((max(r.curve) for r in trials), default=2)
    plot = Plot(
        Axis(1, max(last, 2), whole=True),
        spread(late, percent=is_share([row])),
        f"Search trials of {row.arm}",
        width,
        150,
    )
    for r in sorted(trials, key=lambda r: r.state == "complete"):
        curve = [(float(e), v) for e, v in r.curve.items()]
        title = f"{_name(r, row)}: {r.state}, {_params(r)}"
        plot.line(
            curve, Style(SOFT if r.state == "complete" else FAINT, "", 1.3 if r.state == "complete" else 1.0), title
        )
        if r.state == "pruned":
            plot.dot(curve[-1], FAINT, f"{_name(r, row)} stopped after epoch {r.epochs}", shape="ring", radius=2.2)
        elif r.state == "failed":
            plot.dot(curve[-1], "#D55E00", f"{_name(r, row)} failed: {r.attrs.get('reason', '')}", shape="cross")
    return plot.picture()


def slices(sources: Sources, row: LeaderboardRow, look: Style) -> dict[str, Picture]:
    """Return parameter -> chart of the objective over that parameter, whatever the other parameters are.

    Stopped and failed trials lie on the bottom edge: what a trial had reached when it was stopped compares with none.
    """
    trials = [r for r in sources.search_trials(row) if r.params and r.finished]
    values = [r.value for r in trials if r.state == "complete" and r.value is not None]
    y = spread(values, axis_label(row.objective), percent=is_share([row]))
    y = replace(y, low=y.low - 0.2 * (y.high - y.low))  # room for what did not complete, at the bottom
    space = {name: range_ for r in trials for name, range_ in r.space.items()}
    charts: dict[str, Picture] = {}
    for name, range_ in space.items():
        names = tuple(str(c) for c in range_.choices or ())
        with_value = [r for r in trials if name in r.params]
        if names:
            x = Axis(-0.5, len(names) - 0.5, names=names)
        elif range_.low is not None and range_.high is not None and range_.high > range_.low:
            x = Axis(range_.low, range_.high, log=range_.log)
        else:
            continue
        plot = Plot(x, y, f"{row.arm}: validation against {name}", width=170, height=138, left=34, right=14)
        for r in with_value:
            value = sources.reached(r)
            across = float(names.index(str(r.params[name]))) if names else float(r.params[name])
            place = (across, value if r.state == "complete" and value is not None else y.low)
            shape = {"complete": "disc", "pruned": "ring", "failed": "cross"}[r.state]
            text = f"{_name(r, row)}, {name} {_value(r.params[name])}: " + (
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
        charts[name] = plot.picture()
    return charts


def _name(r: TrialRecord, row: LeaderboardRow) -> str:
    return f"trial {r.number}" + (f" of replicate {r.replicate + 1}" if row.replicates > 1 else "")


def _params(record: TrialRecord) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in record.params.items())


def _value(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
