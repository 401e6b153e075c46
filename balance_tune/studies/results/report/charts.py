"""Draws small charts as static SVG text: axes, lines, bands, dots and labels; no script, no file, no network.

A plot is drawn at the size it is meant to be read at (about 340 pixels wide), so that text keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

Place = tuple[float, float]

INK, SOFT, GRID, FAINT = "#1c2024", "#5b6570", "#e3e7eb", "#b8c0c8"
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
        return _linear_ticks(self.low, self.high, most)

    def text(self, value: float) -> str:
        """Return a value as the axis labels it."""
        if self.names:
            return shorten(self.names[round(value)], 10)
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
    """A chart being drawn: call `line`, `band`, `dot`, `label`, then `svg`."""

    x: Axis
    y: Axis
    caption: str  # read aloud by screen readers
    width: int = 340
    height: int = 210
    right: int = 12  # room for labels at the ends of lines
    left: int = 40
    top: int = 10
    lines: list[str] = field(default_factory=list)  # cut off at the axes
    marks: list[str] = field(default_factory=list)
    _ends: list[tuple[float, str, str]] = field(default_factory=list)
    _boxes: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def _bottom(self) -> int:
        return 34 if self.x.label else 20

    def at(self, place: Place, *, free: bool = False) -> Place:
        """Return the pixel of a place in data units; outside the axes it is held at the edge unless `free`."""
        across = self.width - self.left - self.right
        down = self.height - self.top - self._bottom
        x, y = self.x.share(place[0]), self.y.share(place[1], free=free)
        return self.left + across * x, self.top + down * (1 - y)

    def line(self, places: Sequence[Place], style: Style, title: str = "", *, step: bool = False) -> None:
        """Draw a line through `places`; with `step` the value holds until the next place."""
        spots = [self.at(p, free=True) for p in thin(places)]
        if not spots:
            return
        path = f"M{_n(spots[0][0])} {_n(spots[0][1])}"
        for before, (x, y) in pairwise(spots):
            path += f"H{_n(x)}V{_n(y)}" if step and before != (x, y) else f"L{_n(x)} {_n(y)}"
        dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
        self.lines.append(
            f'<path d="{path}" fill="none" stroke="{style.colour}" stroke-width="{style.width}"{dash} '
            f'stroke-linejoin="round">{_title(title)}</path>'
        )

    def band(self, low: Sequence[Place], high: Sequence[Place], colour: str) -> None:
        """Shade between two lines."""
        spots = [self.at(p, free=True) for p in [*thin(low), *reversed(thin(high))]]
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in spots)
        self.lines.append(f'<polygon points="{points}" fill="{colour}" opacity="0.14"/>')

    def dot(self, place: Place, colour: str, title: str = "", *, shape: str = "disc", radius: float = 3.2) -> None:
        """Draw one mark: a "disc", a hollow "ring", a "cross", a "square", or "none" that only answers the pointer."""
        x, y = self.at(place)
        if shape == "cross":
            d = f"M{_n(x - 3)} {_n(y - 3)}l6 6m0-6l-6 6"
            mark = f'<path d="{d}" stroke="{colour}" stroke-width="1.4" fill="none"/>'
        elif shape == "square":
            side = 2 * radius
            mark = (
                f'<rect x="{_n(x - radius)}" y="{_n(y - radius)}" width="{_n(side)}" height="{_n(side)}" fill="none" '
                f'stroke="{colour}" stroke-width="1.4"/>'
            )
        elif shape == "none":
            mark = ""
        else:
            paint = f'fill="{colour}"' if shape == "disc" else f'fill="#fff" stroke="{colour}" stroke-width="1.2"'
            mark = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" {paint}/>'
        hit = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="7" fill="transparent"/>' if title else ""
        self.marks.append(f"<g>{mark}{hit}{_title(title)}</g>" if title else mark)
        self._boxes.append((x - radius, y - radius, x + radius, y + radius))

    def rule(self, *, x: float | None = None, y: float | None = None, title: str = "") -> None:
        """Draw a dashed line across the plot at one value."""
        (left, low), (right, high) = self.at((self.x.low, self.y.low)), self.at((self.x.high, self.y.high))
        if x is not None:
            left = right = self.at((x, self.y.low))[0]
        if y is not None:
            low = high = self.at((self.x.low, y))[1]
        self.marks.append(
            f'<line x1="{_n(left)}" y1="{_n(low)}" x2="{_n(right)}" y2="{_n(high)}" stroke="{SOFT}" '
            f'stroke-dasharray="3 3">{_title(title)}</line>'
        )

    def end(self, y: float, text: str, colour: str) -> None:
        """Name a line at the right edge, at the height of `y`; names that would collide are moved apart."""
        self._ends.append((self.at((self.x.high, y))[1], text, colour))

    def name(self, place: Place, text: str, colour: str) -> None:
        """Write a name beside a dot where it hides neither dots nor names; after all dots are drawn."""
        x, y = self.at(place)
        wide, high = text_width(text), 10
        spots = [(x + 6, y + 3.5), (x - 6 - wide, y + 3.5), (x - wide / 2, y - 7), (x - wide / 2, y + 15)]
        spots += [(x + 6, y + 3.5 + shift) for shift in (-11, 11)]
        spots += [(x - 6 - wide, y + 3.5 + shift) for shift in (-11, 11, -22, 22)]
        inside = [s for s in spots if s[0] > self.left and s[0] + wide < self.width and s[1] > 9]
        for left, base in inside or spots:
            box = (left, base - high, left + wide, base + 2)
            if not any(_overlap(box, other) for other in self._boxes):
                break
        else:
            left, base = (inside or spots)[0]
        self._boxes.append((left, base - high, left + wide, base + 2))
        self.marks.append(_text(left, base, text, colour, halo=True))

    def svg(self) -> str:
        """Return the finished chart."""
        down = self.height - self._bottom + 1
        inside = f'x="0" y="0" width="{self.width}" height="{down}" viewBox="0 0 {self.width} {down}"'
        lines = [f"<svg {inside}>", *self.lines, "</svg>"] if self.lines else []
        parts = [*self._frame(), *lines, *self.marks, *self._end_names()]
        return (
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-label="{escape(self.caption)}">{"".join(parts)}</svg>'
        )

    def _frame(self) -> list[str]:
        (left, bottom), (right, top) = self.at((self.x.low, self.y.low)), self.at((self.x.high, self.y.high))
        parts = []
        for value in self.y.ticks(max(int((bottom - top) / 36), 2)):
            y = self.at((self.x.low, value))[1]
            parts.append(f'<path d="M{_n(left)} {_n(y)}H{_n(right)}" stroke="{GRID}"/>')
            parts.append(_text(left - 5, y + 3.5, self.y.text(value), SOFT, "end"))
        for value in self.x.ticks(max(int((right - left) / 52), 2)):
            x = self.at((value, self.y.low))[0]
            parts.append(f'<path d="M{_n(x)} {_n(bottom)}v3" stroke="{FAINT}"/>')
            parts.append(_text(x, bottom + 14, self.x.text(value), SOFT, "middle"))
        parts.append(f'<path d="M{_n(left)} {_n(bottom)}H{_n(right)}" stroke="{FAINT}"/>')
        if self.x.label:
            parts.append(_text((left + right) / 2, self.height - 5, self.x.label, SOFT, "middle"))
        return parts

    def _end_names(self) -> list[str]:
        names = sorted(self._ends)
        heights = apart([y for y, _, _ in names], 12, self.top + 4, self.height - self._bottom)
        left = self.width - self.right + 4
        return [_text(left, y + 3.5, text, colour) for y, (_, text, colour) in zip(heights, names, strict=True)]


def interval_mark(
    low: float | None, mean: float, high: float | None, axis: Axis, colour: str, blind: float | None, title: str
) -> str:
    """Return one row of a forest plot: zero, the mean with its interval, and in grey what the study could not see."""
    width, height = 210, 26

    def x(value: float) -> float:
        return 8 + (width - 16) * axis.share(value)

    middle = height / 2
    parts = []
    if blind is not None:
        parts.append(f'<rect x="{_n(x(-blind))}" y="3" width="{_n(x(blind) - x(-blind))}" height="20" fill="#eef1f4"/>')
    parts.append(f'<path d="M{_n(x(0))} 0V{height}" stroke="{SOFT}" stroke-dasharray="3 3"/>')
    if low is not None and high is not None:
        caps = f"M{_n(x(low))} {middle - 4}v8M{_n(x(high))} {middle - 4}v8"
        parts.append(
            f'<path d="M{_n(x(low))} {middle}H{_n(x(high))}{caps}" stroke="{colour}" stroke-width="1.8" fill="none"/>'
        )
    parts.append(f'<circle cx="{_n(x(mean))}" cy="{middle}" r="4" fill="{colour}"/>')
    return (
        f'<svg class="forest" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">{_title(title)}{"".join(parts)}</svg>'
    )


def interval_axis(axis: Axis) -> str:
    """Return the scale above a column of `interval_mark`."""
    width, height = 210, 16
    parts = []
    for value in axis.ticks(5):
        x = 8 + (width - 16) * axis.share(value)
        parts.append(_text(x, 12, number(100 * value, sign=value != 0), SOFT, "middle"))
    return (
        f'<svg class="forest" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def key(style: Style, shape: str = "line") -> str:
    """Return the little picture of a series for a legend."""
    if shape == "line":
        dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
        mark = f'<path d="M1 6H19" stroke="{style.colour}" stroke-width="2.4"{dash}/>'
    elif shape == "cross":
        mark = f'<path d="M7 3l6 6m0-6l-6 6" stroke="{style.colour}" stroke-width="1.6"/>'
    elif shape == "square":
        mark = f'<rect x="6.5" y="2.5" width="7" height="7" fill="none" stroke="{style.colour}" stroke-width="1.4"/>'
    else:
        paint = f'fill="{style.colour}"' if shape == "disc" else f'fill="#fff" stroke="{style.colour}"'
        mark = f'<circle cx="10" cy="6" r="3.6" {paint} stroke-width="1.4"/>'
    return f'<svg class="key" viewBox="0 0 20 12" width="20" height="12" aria-hidden="true">{mark}</svg>'


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


def text_width(text: str) -> float:
    """Return about how many pixels wide a text of 11 pixels is, in the widest of the usual fonts."""
    return 6.8 * len(text)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / max(most, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**d for d in decades for m in steps if low * 0.999 <= m * 10.0**d <= high * 1.001]
        if len(ticks) <= most:
            break
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else [low, high]


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", *, halo: bool = False) -> str:
    edge = ' paint-order="stroke" stroke="#fff" stroke-width="3"' if halo else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}" fill="{colour}"{where}{edge}>{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
