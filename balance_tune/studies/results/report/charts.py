"""Draws small charts: axes, lines, bands, dots and labels.

A plot is drawn at the size it is meant to be read at (about 340 pixels wide), so that text keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from balance_tune.studies.results.report.shapes import (
    Area,
    Disc,
    Line,
    Mark,
    Picture,
    Place,
    Shape,
    Text,
    svg_of,
    text_width,
)

INK, SOFT, GRID, FAINT = "#1c2024", "#5b6570", "#e3e7eb", "#b8c0c8"
BLIND = "#eef1f4"  # behind differences that are too small to be found
# Okabe & Ito's colours, safe for colour-blind readers; black is the baseline's, yellow (unreadable on white) left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("", "6 3", "2 2", "8 3 2 3")  # after the colours are used up, lines differ by dash


@dataclass(frozen=True)
class Style:
    """How a series looks; `dash` tells it apart where the colour cannot."""

    colour: str = INK
    dash: str = ""
    width: float = 1.6


def style_of(index: int) -> Style:
    """Return the look of the `index`-th series that is not the baseline."""
    return Style(PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)])


@dataclass(frozen=True)
class Axis:
    """One axis from `low` to `high` in data units; `names` makes it categorical (positions 0, 1, ...)."""

    low: float
    high: float
    label: str = ""
    log: bool = False
    percent: bool = False
    names: tuple[str, ...] = ()
    longest: int = 10  # characters of a name that are shown
    whole: bool = False  # values are whole numbers, such as epochs

    def share(self, value: float, *, free: bool = False) -> float:
        """Return where `value` lies between low (0) and high (1); outside it is held at the edge unless `free`."""
        low, high, v = self.low, self.high, value
        if self.log:
            low, high, v = math.log(low), math.log(high), math.log(max(v, 1e-300))
        share = (v - low) / (high - low) if high > low else 0.5
        return share if free else min(max(share, 0.0), 1.0)

    def ticks(self, most: int = 5) -> list[float]:
        """Return at most about `most` round values inside the axis."""
        if self.names:
            return [float(i) for i in range(len(self.names))]
        if self.log:
            return _log_ticks(self.low, self.high, most)
        return _linear_ticks(self.low, self.high, most, self.whole)

    def text(self, value: float) -> str:
        """Return a value as the axis labels it."""
        if self.names:
            return shorten(self.names[round(value)], self.longest)
        return number(100 * value if self.percent else value)


def spread(values: Sequence[float], label: str = "", *, log: bool = False, percent: bool = False) -> Axis:
    """Return an axis around `values` with a little room; of no values, from 0 to 1."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not finite:
        return Axis(0.1 if log else 0.0, 1.0, label, log, percent)
    low, high = min(finite), max(finite)
    if log:
        room = max((high / low) ** 0.05, 1.05)
        return Axis(low / room, high * room, label, log, percent)
    room = 0.06 * (high - low) or (0.01 if percent else abs(high) * 0.05) or 0.5
    return Axis(low - room, high + room, label, log, percent)


@dataclass
class Plot:
    """A chart being drawn: call `line`, `band`, `dot`, `label`, then `picture`."""

    x: Axis
    y: Axis
    caption: str  # read aloud by screen readers
    width: int = 340
    height: int = 210
    right: int = 12  # room for labels at the ends of lines
    left: int = 40
    top: int = 10
    _lines: list[Mark] = field(default_factory=list)  # cut off at the axes
    _marks: list[Mark] = field(default_factory=list)
    _ends: list[tuple[float, str, str]] = field(default_factory=list)
    _boxes: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def _top(self) -> int:
        return self.top + (14 if self.y.label else 0)

    @property
    def _bottom(self) -> int:
        return 34 if self.x.label else 20

    def at(self, place: Place, *, free: bool = False) -> Place:
        """Return the pixel of a place in data units; outside the axes it is held at the edge unless `free`."""
        across = self.width - self.left - self.right
        top = self._top
        down = self.height - top - self._bottom
        x, y = self.x.share(place[0]), self.y.share(place[1], free=free)
        return self.left + across * x, top + down * (1 - y)

    def line(self, places: Sequence[Place], style: Style, title: str = "", *, step: bool = False) -> None:
        """Draw a line through `places`; with `step` the value holds until the next place."""
        spots = [self.at(p, free=True) for p in thin(places)]
        if not spots:
            return
        path = spots[:1]
        for before, spot in pairwise(spots):
            path += [(spot[0], before[1]), spot] if step else [spot]
        self._lines.append(Mark([Line(path, style.colour, style.width, style.dash)], title))

    def band(self, low: Sequence[Place], high: Sequence[Place], colour: str) -> None:
        """Shade between two lines."""
        spots = [self.at(p, free=True) for p in [*thin(low), *reversed(thin(high))]]
        self._lines.append(Mark([Area(spots, colour, 0.14)]))

    def dot(self, place: Place, colour: str, title: str = "", *, shape: str = "disc", radius: float = 3.2) -> None:
        """Draw one mark: a "disc", a hollow "ring", a "cross", a "square", or "none" that only answers the pointer."""
        x, y = self.at(place)
        self._marks.append(Mark(_dot(x, y, colour, shape, radius), title, (x, y)))
        self._boxes.append((x - radius, y - radius, x + radius, y + radius))

    def rule(self, *, x: float | None = None, y: float | None = None, title: str = "") -> None:
        """Draw a dashed line across the plot at one value."""
        (left, low), (right, high) = self.at((self.x.low, self.y.low)), self.at((self.x.high, self.y.high))
        if x is not None:
            left = right = self.at((x, self.y.low))[0]
        if y is not None:
            low = high = self.at((self.x.low, y))[1]
        self._marks.append(Mark([Line([(left, low), (right, high)], SOFT, 1.0, "3 3")], title))

    def interval(self, ends: tuple[float, float], y: float, colour: str) -> None:
        """Draw a horizontal interval with caps at the height of `y`; an end beyond the axis has no cap."""
        (left, level), (right, _) = (self.at((end, y)) for end in ends)
        lines = [Line([(left, level), (right, level)], colour, 1.8)]
        lines += [
            Line([(x, level - 4), (x, level + 4)], colour, 1.8)
            for x, end in ((left, ends[0]), (right, ends[1]))
            if self.x.low <= end <= self.x.high
        ]
        self._marks.append(Mark(lines))

    def legend(self, entries: Sequence[tuple[str, Style]]) -> None:
        """List series in the room at the right, from the top."""
        left = self.width - self.right + 6
        for i, (text, look) in enumerate(entries):
            y = self._top + 8 + 14 * i
            sample = Line([(left, y), (left + 16, y)], look.colour, 2.0, look.dash)
            self._marks.append(Mark([sample, Text((left + 20, y + 3.5), text, INK)]))

    def end(self, y: float, text: str, colour: str) -> None:
        """Name a line at the right edge, at the height of `y`; names that would collide are moved apart."""
        self._ends.append((self.at((self.x.high, y))[1], text, colour))

    def name(self, place: Place, text: str, colour: str) -> None:
        """Write a name near a dot where it hides neither dots nor names, far ones with a line; after all dots."""
        x, y = self.at(place)
        wide, high = text_width(text), 10
        near = [(x + 6, y + 3.5), (x - 6 - wide, y + 3.5), (x - wide / 2, y - 7), (x - wide / 2, y + 15)]
        near += [(side, y + 3.5 + shift) for side in (x + 6, x - 6 - wide) for shift in (-11, 11)]
        far = [
            (side, y + 3.5 + shift)
            for k in range(2, 14)
            for shift in (-11 * k, 11 * k)
            for side in (x + 22, x - 22 - wide)
        ]
        floor = self.height - self._bottom
        inside = [s for s in near + far if self.left < s[0] < self.width - wide and self._top < s[1] < floor]
        boxes = {spot: (spot[0], spot[1] - high, spot[0] + wide, spot[1] + 2) for spot in inside or near}
        free = (spot for spot, box in boxes.items() if not any(_overlap(box, other) for other in self._boxes))
        left, base = next(free, next(iter(boxes)))
        self._boxes.append(boxes[left, base])
        if (left, base) in far:
            self._marks.append(
                Mark([Line([(x, y), (left - 2 if left > x else left + wide + 2, base - 3.5)], colour, 0.7)])
            )
        spot, anchor = ((left, base), "start") if left > x - wide / 2 - 1 else ((left + wide, base), "end")
        self._marks.append(Mark([Text(spot, text, colour, anchor, halo=True)]))

    def picture(self) -> Picture:
        """Return the finished chart."""
        floor = self.height - self._bottom + 1
        marks = [*self._marks, *self._end_names()]
        return Picture(self.width, self.height, self.caption, self._frame(), self._lines, marks, floor)

    def _frame(self) -> list[Mark]:
        (left, bottom), (right, top) = self.at((self.x.low, self.y.low)), self.at((self.x.high, self.y.high))
        shapes: list[Shape] = []
        for value in self.y.ticks(max(int((bottom - top) / 36), 2)):
            y = self.at((self.x.low, value))[1]
            shapes.append(Line([(left, y), (right, y)], GRID))
            shapes.append(Text((left - 5, y + 3.5), self.y.text(value), SOFT, "end"))
        for value in self.x.ticks(max(int((right - left) / 52), 2)):
            x = self.at((value, self.y.low))[0]
            shapes.append(Line([(x, bottom), (x, bottom + 3)], FAINT))
            shapes.append(Text((x, bottom + 14), self.x.text(value), SOFT, "middle"))
        shapes.append(Line([(left, bottom), (right, bottom)], FAINT))
        if self.x.label:
            shapes.append(Text(((left + right) / 2, self.height - 5), self.x.label, SOFT, "middle"))
        if self.y.label:
            shapes.append(Text((2, self.top + 3), self.y.label, SOFT))
        return [Mark(shapes)]

    def _end_names(self) -> list[Mark]:
        names = sorted(self._ends)
        heights = apart([y for y, _, _ in names], 12, self._top + 4, self.height - self._bottom)
        left = self.width - self.right + 4
        return [
            Mark([Text((left, y + 3.5), text, colour)]) for y, (_, text, colour) in zip(heights, names, strict=True)
        ]


def interval_mark(
    low: float | None, mean: float, high: float | None, axis: Axis, colour: str, blind: float | None, title: str
) -> str:
    """Return one row of a forest plot: zero, the mean with its interval, and in grey what the study could not see."""
    width, height = 210, 26

    def x(value: float) -> float:
        return 8 + (width - 16) * axis.share(value)

    middle = height / 2
    shapes: list[Shape] = []
    if blind is not None:
        shapes.append(Area([(x(-blind), 3), (x(blind), 3), (x(blind), 23), (x(-blind), 23)], BLIND))
    shapes.append(Line([(x(0), 0), (x(0), height)], SOFT, 1.0, "3 3"))
    if low is not None and high is not None:
        shapes.append(Line([(x(low), middle), (x(high), middle)], colour, 1.8))
        shapes += [Line([(x(v), middle - 4), (x(v), middle + 4)], colour, 1.8) for v in (low, high)]
    shapes.append(Disc((x(mean), middle), 4, colour))
    return (
        f'<svg class="forest" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(map(svg_of, shapes))}</svg>'
    )


def interval_axis(axis: Axis) -> str:
    """Return the scale above a column of `interval_mark`."""
    width, height = 210, 16
    texts = [
        Text((8 + (width - 16) * axis.share(v), 12), number(100 * v, sign=v != 0), SOFT, "middle")
        for v in axis.ticks(5)
    ]
    return (
        f'<svg class="forest" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f"{''.join(map(svg_of, texts))}</svg>"
    )


def key(style: Style, shape: str = "line") -> str:
    """Return the little picture of a series for a legend."""
    shapes = (
        [Line([(1, 6), (19, 6)], style.colour, 2.4, style.dash)]
        if shape == "line"
        else _dot(10, 6, style.colour, shape, 3.6)
    )
    inside = "".join(map(svg_of, shapes))
    return f'<svg class="key" viewBox="0 0 20 12" width="20" height="12" aria-hidden="true">{inside}</svg>'


def _dot(x: float, y: float, colour: str, shape: str, radius: float) -> list[Shape]:
    if shape == "cross":
        ends = [((x - 3, y - 3), (x + 3, y + 3)), ((x + 3, y - 3), (x - 3, y + 3))]
        return [Line(points, colour, 1.4) for points in ends]
    if shape == "square":
        r = radius
        corners = [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r), (x - r, y - r)]
        return [Line(corners, colour, 1.4)]
    if shape == "none":
        return []
    return [Disc((x, y), radius, colour) if shape == "disc" else Disc((x, y), radius, "#fff", colour)]


def thin(places: Sequence[Place], most: int = 60) -> list[Place]:
    """Return at most about `most` of the places, evenly spread, first and last kept."""
    if len(places) <= most:
        return list(places)
    picked = sorted({round(i * (len(places) - 1) / (most - 1)) for i in range(most)})
    return [places[i] for i in picked]


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return rising `heights` moved as little as need be so that neighbours are `gap` apart, within [low, high]."""
    placed: list[float] = []
    for y in heights:
        placed.append(max(y, placed[-1] + gap if placed else low))
    for i in reversed(range(len(placed))):
        limit = high if i == len(placed) - 1 else placed[i + 1] - gap
        placed[i] = min(placed[i], limit)
    return placed


def number(value: float, *, sign: bool = False) -> str:
    """Return a number in few characters: 3 significant digits, no trailing zeros, a true minus sign."""
    size = abs(value)
    text = f"{value:.0f}" if 1000 <= size < 1e6 else f"{value:.3g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        text = f"{mantissa}e{int(exponent)}"
    return (f"+{text}" if sign and value > 0 else text).replace("-", "\N{MINUS SIGN}")


def shorten(text: str, most: int) -> str:
    """Return text of at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _linear_ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / max(most, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    steps = [size * m for m in (0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10)]
    steps = [step for step in steps if not whole or step == round(step)]
    k = next(i for i, step in enumerate(steps) if step >= raw)
    ticks = _multiples(low, high, steps[k])
    return ticks if len(ticks) > 1 else _multiples(low, high, steps[k - 1])


def _multiples(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**d for d in decades for m in steps if low * 0.999 <= m * 10.0**d <= high * 1.001]
        if len(ticks) <= most:
            break
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else [low, high]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
