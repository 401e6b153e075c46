"""Figures that hold methods side by side: intervals, performance profiles, and the critical-difference diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from balance_tune.studies.results.across import Ranks
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report.charts import FAINT, INK, SOFT, Axis, Plot, Style, shorten, spread
from balance_tune.studies.results.report.shapes import Line, Mark, Picture, Shape, Text, text_width
from balance_tune.studies.results.statistics import Interval
from balance_tune.studies.results.summary import Summary

MAX_NAMED = 4  # profiles with a colour and a band beside the baseline's; more could not be distinguished
LONGEST = 20  # characters of a method's name
LINE_HEIGHT = 20  # pixels of a row of intervals


@dataclass(frozen=True)
class Entry:
    """A row of a figure of intervals; `unseen` is the difference below which the study would have missed it."""

    name: str
    mean: float
    ends: Interval | None
    colour: str
    text: str
    unseen: float | None = None


def difference_axis(rows: Sequence[LeaderboardRow], label: str = "") -> Axis:
    """Return one scale for all differences of a dataset, zero inside; a wild interval is cut at the edge."""
    ends = [0.0]
    for row in rows:
        if row.delta is not None:
            ends += [row.delta, *(row.delta_ci or [])]
    size = max(max(ends) - min(ends), 0.01)
    low, high = min(ends) - 0.08 * size, max(ends) + 0.08 * size
    share = all(row.metric.is_share for row in rows)
    return Axis(max(low, -1.0), min(high, 1.0), label, percent=True) if share else Axis(low, high, label)


def leaderboard_intervals(rows: Sequence[LeaderboardRow], looks: Mapping[str, Style]) -> Picture | None:
    """Return the difference of each arm to the tuned joint baseline with its interval; None where none is known."""
    entries = [
        Entry(
            row.method, row.delta, row.delta_ci, looks[row.method].colour, row.metric.difference(row.delta),
            row.mde_holm,
        )
        for row in rows
        if row.delta is not None
    ]  # fmt: skip
    if not entries:
        return None
    unit = "points" if rows[0].metric.is_share else str(rows[0].metric)
    axis = difference_axis(rows, f"difference to tuned joint, {unit}")
    return intervals(entries, axis, f"Differences to tuned joint training on {rows[0].dataset}")


def intervals(entries: Sequence[Entry], x: Axis, caption: str) -> Picture:
    """Return means with their intervals, one row each, in the order of `entries`; grey is what would be missed."""
    names = tuple(entry.name for entry in reversed(entries))
    widest = max(text_width(shorten(name, LONGEST)) for name in names)
    plot = Plot(
        x,
        Axis(-0.6, len(names) - 0.4, names=names, longest=LONGEST),
        caption,
        width=440,
        height=44 + LINE_HEIGHT * len(names),
        left=10 + round(widest),
        right=10 + round(max(text_width(entry.text) for entry in entries)),
    )
    plot.rule(x=0.0)
    for place, entry in enumerate(reversed(entries)):
        y = float(place)
        if entry.unseen is not None:
            low, high = ([(-entry.unseen, y + edge), (entry.unseen, y + edge)] for edge in (-0.35, 0.35))
            plot.band(low, high, SOFT)
        ends = "" if entry.ends is None else f", 95 % interval {x.text(entry.ends[0])} to {x.text(entry.ends[1])}"
        if entry.ends is not None:
            plot.interval(entry.ends, y, entry.colour)
        plot.dot((entry.mean, y), entry.colour, f"{entry.name}: {x.text(entry.mean)}{ends}", radius=4)
        plot.end(y, entry.text, INK)
    return plot.picture()


def interquartile_means(summary: Summary, looks: Mapping[str, Style]) -> Picture:
    """Return the interquartile mean of each method over datasets, with its interval."""
    entries = [
        Entry(m.method, m.mean, m.interval, looks[m.method].colour, _signed(100 * m.mean)) for m in summary.methods
    ]
    ends = [end for m in summary.methods for end in (*m.interval, m.mean)]
    x = spread([0.0, *ends], "interquartile mean, % relative to joint", percent=True)
    return intervals(entries, x, "Interquartile mean of each method over datasets")


def profiles(summary: Summary, looks: Mapping[str, Style]) -> Picture:
    """Return the share of runs above each relative score, for each method, with its band."""
    names = [shorten(m.method, LONGEST) for m in summary.methods]
    x = Axis(float(summary.thresholds[0]), float(summary.thresholds[-1]), "score τ, % relative to joint", percent=True)
    plot = Plot(
        x,
        Axis(0, 1, "runs with a score above τ, %", percent=True),
        "Share of runs above a score, in %",
        width=440,
        height=260,
        right=32 + round(max(map(text_width, names))),
    )
    shown = [m for m in summary.methods if m.method != "joint"][:MAX_NAMED]
    shown += [m for m in summary.methods if m.method == "joint"]
    for m in summary.methods:
        if m in shown:
            low, high = (list(zip(summary.thresholds, edge, strict=True)) for edge in m.band)
            plot.band(low, high, looks[m.method].colour)
    ordered = [m for m in summary.methods if m not in shown] + shown
    for m in ordered:
        look = looks[m.method] if m in shown else Style(FAINT)
        plot.line(list(zip(summary.thresholds, m.profile, strict=True)), look, m.method)
    plot.legend([(m.method, looks[m.method] if m in shown else Style(FAINT)) for m in summary.methods])
    return plot.picture()


def critical_difference(ranks: Ranks) -> Picture:
    """Return the critical-difference diagram (Demšar, 2006): ranks on an axis, bars join methods that do not differ.

    Args:
        ranks: with a Friedman test.
    """
    assert ranks.critical is not None
    count, width = len(ranks.methods), 460
    labels = [f"{shorten(m, LONGEST)} {r:.2f}" for m, r in zip(ranks.methods, ranks.average, strict=True)]
    margin = 14 + max(map(text_width, labels))
    top = 56.0
    first = top + 20 + 7 * len(ranks.groups)

    def x(rank: float) -> float:
        return margin + (width - 2 * margin) * (rank - 1) / (count - 1)

    scale = (x(1.0), x(1.0 + ranks.critical))
    shapes: list[Shape] = [
        *_bar(scale, 24, INK),
        Text((sum(scale) / 2, 14), f"critical difference {ranks.critical:.2f}", INK, "middle"),
        Line([(x(1), top), (x(count), top)], INK, 1.2),
    ]
    for place in range(1, count + 1):
        shapes.append(Line([(x(place), top - 4), (x(place), top)], INK, 1.2))
        shapes.append(Text((x(place), top - 8), str(place), SOFT, "middle"))
    better = (count + 1) // 2
    for i, (label, rank) in enumerate(zip(labels, ranks.average, strict=True)):
        left = i < better
        y = first + 16 * (i if left else count - 1 - i)
        end = margin - 6 if left else width - margin + 6
        shapes.append(Line([(x(rank), top), (x(rank), y), (end, y)], SOFT, 1.0))
        shapes.append(Text((end + (-4 if left else 4), y + 3.5), label, INK, "end" if left else "start"))
    for k, (start, last) in enumerate(ranks.groups):
        y = top + 12 + 7 * k
        shapes.append(Line([(x(ranks.average[start]) - 3, y), (x(ranks.average[last]) + 3, y)], INK, 4.0))
    caption = "Critical-difference diagram of average ranks: " + ", ".join(labels)
    return Picture(width, round(first + 16 * (better - 1) + 10), caption, marks=[Mark(shapes)])


def _bar(ends: tuple[float, float], y: float, colour: str) -> list[Shape]:
    """Return a horizontal bar with caps."""
    caps: list[Shape] = [Line([(x, y - 4), (x, y + 4)], colour, 1.6) for x in ends]
    return [Line([(x, y) for x in ends], colour, 1.6), *caps]


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
