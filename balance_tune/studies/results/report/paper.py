"""Writes figures for papers: each as SVG and as PDF, from the marks that the page shows, by matplotlib.

The same study gives the same bytes: no date is written, and settings of the user's matplotlib have no influence.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.studies.results.report.charts import INK, SOFT, Style
from balance_tune.studies.results.report.shapes import (
    TEXT_SIZE,
    Area,
    Disc,
    Line,
    Mark,
    Picture,
    Shape,
    Text,
    text_width,
)
from balance_tune.studies.storage import durable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf")
INCH, POINT = 96, 0.75  # pixels an inch; points a pixel
GAP, TITLE, LEGEND = 14, 18, 20  # pixels between panels, of a panel's title, of the legend


@dataclass(frozen=True)
class Sheet:
    """A figure of one or more panels.

    Attributes:
        panels: title (may be empty) and picture of each, row by row.
        legend: name and look of the series that all panels share.
        columns: panels in a row.
    """

    panels: Sequence[tuple[str, Picture]]
    legend: Sequence[tuple[str, Style]] = ()
    columns: int = 1


def write(folder: Path, sheets: Mapping[str, Sheet]) -> list[Path]:
    """Write `NAME.svg` and `NAME.pdf` of each sheet into `folder`, each whole or not at all; return their paths."""
    paths = []
    with _settings():
        for name, sheet in sheets.items():
            figure = draw(sheet)
            for kind in FORMATS:
                paths.append(folder / f"{name}.{kind}")
                durable.write(paths[-1], _saved(figure, kind))
    return paths


@contextmanager
def _settings() -> Iterator[None]:
    """Draw with matplotlib's defaults, text as outlines (SVG) or embedded TrueType (PDF), and reproducible names."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"svg.fonttype": "path", "svg.hashsalt": "balance_tune", "pdf.fonttype": 42, "lines.scale_dashes": False}
        )
        yield


def _saved(figure: Figure, kind: str) -> bytes:
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={**metadata, "Creator": "balance_tune"})
    return content.getvalue()


def draw(sheet: Sheet) -> Figure:
    """Return a sheet as a figure of matplotlib, panels in a grid, the legend above them."""
    from matplotlib.figure import Figure

    columns = min(sheet.columns, len(sheet.panels))
    titled = TITLE if any(title for title, _ in sheet.panels) else 0
    wide = max(picture.width for _, picture in sheet.panels)
    high = max(picture.height for _, picture in sheet.panels) + titled
    width = columns * (wide + GAP) - GAP
    samples = _legend(sheet.legend, width)
    head = 0 if not samples else LEGEND + round(samples[-1][1])
    height = head + math.ceil(len(sheet.panels) / columns) * (high + GAP) - GAP
    figure = Figure(figsize=(width / INCH, height / INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    pen = _Pen(axes)
    for (name, look), (x, y) in zip(sheet.legend, samples, strict=True):
        pen.shape(Line([(x, y + 9), (x + 20, y + 9)], look.colour, 2.0, look.dash))
        pen.shape(Text((x + 25, y + 12.5), name, SOFT))
    for i, (title, picture) in enumerate(sheet.panels):
        pen.left, pen.top = (i % columns) * (wide + GAP), head + (i // columns) * (high + GAP)
        if title:
            pen.shape(Text((2, 12), title, INK))
        pen.top += titled
        pen.picture(picture)
    return figure


def _legend(entries: Sequence[tuple[str, Style]], width: float) -> list[tuple[float, float]]:
    """Return where each entry of a legend begins, on lines that are no longer than `width`."""
    places, x, y = [], 8.0, 0.0
    for name, _ in entries:
        length = 41 + text_width(name)
        if x > 8 and x + length > width:
            x, y = 8.0, y + 15
        places.append((x, y))
        x += length
    return places


@dataclass
class _Pen:
    """Draws shapes on axes whose unit is a pixel, moved by `left` and `top`; later ones cover earlier ones."""

    axes: Axes
    left: float = 0.0
    top: float = 0.0
    count: int = 0

    def picture(self, picture: Picture) -> None:
        box = (0, 0, picture.width, picture.floor)
        for marks, clip in ((picture.frame, None), (picture.clipped, box), (picture.marks, None)):
            self._marks(marks, clip)

    def _marks(self, marks: Sequence[Mark], clip: tuple[float, float, float, float] | None) -> None:
        for shape in (shape for mark in marks for shape in mark.shapes):
            self.shape(shape, clip)

    def shape(self, shape: Shape, clip: tuple[float, float, float, float] | None = None) -> None:
        from matplotlib.transforms import Bbox, TransformedBbox

        artist = self._artist(shape)
        self.count += 1
        artist.set_zorder(self.count)
        artist.set_clip_on(clip is not None)
        if clip is not None:
            left, top, right, bottom = clip
            edges = [[self.left + left, self.top + top], [self.left + right, self.top + bottom]]
            artist.set_clip_box(TransformedBbox(Bbox(edges), self.axes.transData))

    def _artist(self, shape: Shape) -> Any:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Circle, Polygon
        from matplotlib.patheffects import withStroke

        match shape:
            case Line(points, colour, width, dash):
                pattern = (0.0, [POINT * float(x) for x in dash.split()]) if dash else None
                xs, ys = zip(*((self.left + x, self.top + y) for x, y in points), strict=True)
                return self.axes.add_line(
                    Line2D(
                        xs, ys, color=colour, linewidth=POINT * width, linestyle=pattern or "-", solid_capstyle="butt",
                        solid_joinstyle="round",
                    )
                )  # fmt: skip
            case Area(points, colour, opacity):
                corners = [(self.left + x, self.top + y) for x, y in points]
                return self.axes.add_patch(Polygon(corners, facecolor=colour, alpha=opacity, linewidth=0))
            case Disc((x, y), radius, fill, edge):
                outline = {"edgecolor": edge, "linewidth": POINT * 1.2} if edge else {"linewidth": 0}
                return self.axes.add_patch(Circle((self.left + x, self.top + y), radius, facecolor=fill, **outline))
            case Text((x, y), text, colour, anchor, halo):
                align = {"start": "left", "middle": "center", "end": "right"}[anchor]
                around = [withStroke(linewidth=3 * POINT, foreground="white")] if halo else []
                return self.axes.text(
                    self.left + x, self.top + y, text, color=colour, fontsize=POINT * TEXT_SIZE, ha=align,
                    va="baseline", path_effects=around, parse_math=False,
                )  # fmt: skip
