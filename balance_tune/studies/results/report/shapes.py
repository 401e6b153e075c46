"""The marks of a figure in pixels: the page writes them as SVG, `paper` draws the same marks with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Place = tuple[float, float]

TEXT_SIZE = 11  # pixels


@dataclass(frozen=True)
class Line:
    """A line through `points`, without fill; `dash` is a pattern as SVG writes it."""

    points: Sequence[Place]
    colour: str
    width: float = 1.0
    dash: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon without an edge."""

    points: Sequence[Place]
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Disc:
    """A filled circle; `edge` is the colour of its outline, none where empty."""

    centre: Place
    radius: float
    fill: str
    edge: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text at its baseline; `anchor` is "start", "middle" or "end"; a halo keeps it readable on lines."""

    place: Place
    text: str
    colour: str
    anchor: str = "start"
    halo: bool = False


Shape = Line | Area | Disc | Text


@dataclass(frozen=True)
class Mark:
    """Shapes that belong together; `title` appears where the pointer is on them or near `target`."""

    shapes: Sequence[Shape]
    title: str = ""
    target: Place | None = None

    def svg(self) -> str:
        """Return the mark as SVG."""
        inside = "".join(map(svg_of, self.shapes))
        if not self.title:
            return inside
        if self.target is not None:
            x, y = self.target
            inside += f'<circle cx="{_n(x)}" cy="{_n(y)}" r="7" fill="transparent"/>'
        return f"<g>{inside}<title>{escape(self.title)}</title></g>"


@dataclass
class Picture:
    """A finished figure, drawn at the size it is meant to be read at.

    Attributes:
        width, height: pixels, 96 an inch.
        caption: read aloud by screen readers.
        frame: marks at the back, axes and grid.
        clipped: marks that are cut off below `floor`.
        marks: marks at the front.
        floor: pixels from the top.
    """

    width: int
    height: int
    caption: str
    frame: list[Mark] = field(default_factory=list)
    clipped: list[Mark] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    floor: int = 0

    def svg(self) -> str:
        """Return the figure as an SVG element for a page."""
        inside = f'x="0" y="0" width="{self.width}" height="{self.floor}" viewBox="0 0 {self.width} {self.floor}"'
        lines = [f"<svg {inside}>", *(mark.svg() for mark in self.clipped), "</svg>"] if self.clipped else []
        parts = [*(mark.svg() for mark in self.frame), *lines, *(mark.svg() for mark in self.marks)]
        return (
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-label="{escape(self.caption)}">{"".join(parts)}</svg>'
        )


def svg_of(shape: Shape) -> str:
    """Return one shape as an SVG element."""
    match shape:
        case Line(points, colour, width, dash):
            path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            return (
                f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{_n(width)}"{dashed} '
                'stroke-linejoin="round"/>'
            )
        case Area(points, colour, opacity):
            corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
            pale = f' opacity="{opacity}"' if opacity < 1 else ""
            return f'<polygon points="{corners}" fill="{colour}"{pale}/>'
        case Disc((x, y), radius, fill, edge):
            outline = f' stroke="{edge}" stroke-width="1.2"' if edge else ""
            return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}"{outline}/>'
        case Text((x, y), text, colour, anchor, halo):
            style = ' paint-order="stroke" stroke="#fff" stroke-width="3"' if halo else ""
            style += "" if anchor == "start" else f' text-anchor="{anchor}"'
            return f'<text x="{_n(x)}" y="{_n(y)}" fill="{colour}"{style}>{escape(text)}</text>'


def text_width(text: str) -> float:
    """Return about how many pixels wide a text is, in the widest of the usual fonts."""
    return 6.8 * len(text)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
