"""Figures as files: every mark is drawn, the same bytes each time, fonts inside, text as text or outlines."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon

from balance_tune.studies.results.report.charts import Style
from balance_tune.studies.results.report.paper import Sheet, draw, write
from balance_tune.studies.results.report.shapes import Area, Disc, Line, Mark, Picture, Text

SHAPES = (
    Line([(0, 0), (50, 60)], "#0072B2", 2.0, "6 3"),
    Area([(0, 0), (50, 0), (50, 50)], "#000000", 0.14),
    Disc((10, 20), 4, "#ffffff", "#D55E00"),
    Text((30, 40), "κ \N{MINUS SIGN}1 $x$", "#5b6570", "end"),
    Text((30, 40), "opm", "#5b6570", halo=True),
)
NAMES = ("fused", "opm", "mlb", "joint")


@pytest.fixture
def picture() -> Picture:
    return Picture(
        96, 48, "a figure", frame=[Mark(SHAPES[:1])], clipped=[Mark(SHAPES[1:2])], marks=[Mark(SHAPES[2:])], floor=40
    )


def test_a_sheet_has_the_size_and_every_mark_of_its_panels(picture: Picture) -> None:
    figure = draw(Sheet([("opm", picture), ("mlb", picture), ("joint", picture)], [("fused", Style())], columns=2))
    assert figure.get_size_inches() == pytest.approx(((2 * 96 + 14) / 96, (20 + 2 * (48 + 18) + 14) / 96))
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.texts if t.get_fontsize() == 8.25 and t.get_text() in NAMES] == [
        "fused",
        "opm",
        "opm",
        "mlb",
        "opm",
        "joint",
        "opm",
    ]
    kinds = [sum(isinstance(artist, kind) for artist in axes.get_children()) for kind in (Line2D, Polygon, Circle)]
    assert kinds == [4, 3, 3]  # with the line of the legend
    lines = [artist for artist in axes.get_children() if isinstance(artist, Line2D)]
    assert list(lines[3].get_xdata()) == [0, 50]
    assert list(lines[2].get_xdata()) == [110, 160]  # the second panel is a width and a gap further right
    assert lines[1].get_linewidth() == 1.5  # points of 2 pixels
    assert [p.get_clip_on() for p in axes.patches if isinstance(p, Polygon)] == [True] * 3
    assert not any(line.get_clip_on() for line in lines)


def test_files_are_the_same_whatever_the_users_settings_are(picture: Picture, tmp_path: Path) -> None:
    sheets = {"one": Sheet([("", picture)])}
    paths = write(tmp_path / "a", sheets)
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "none", "figure.facecolor": "red"}):
        again = write(tmp_path / "b", sheets)
        assert mpl.rcParams["font.size"] == 30
    assert [p.name for p in paths] == ["one.svg", "one.pdf"]
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]


def test_files_have_no_date_no_title_and_their_fonts_inside(picture: Picture, tmp_path: Path) -> None:
    svg, pdf = write(tmp_path, {"one": Sheet([("", picture)])})
    root = ElementTree.fromstring(svg.read_text())
    assert (root.get("width"), root.get("height")) == ("72pt", "36pt")
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # text is outlines
    assert not re.search(r"\d{4}-\d{2}-\d{2}", svg.read_text())
    content = pdf.read_bytes()
    assert b"/FontFile2" in content  # embedded TrueType
    assert b"/CreationDate" not in content


def test_a_legend_that_is_longer_than_the_sheet_goes_on_in_a_second_line(picture: Picture) -> None:
    names = ["accelerometer", "gyroscope", "heart rate"]
    figure = draw(Sheet([("", Picture(220, 48, "a figure"))], [(name, Style()) for name in names]))
    (axes,) = figure.axes
    places = {t.get_text(): t.get_position() for t in axes.texts}
    assert places["accelerometer"][1] < places["gyroscope"][1] == places["heart rate"][1]
    assert figure.get_size_inches()[1] * 96 == pytest.approx(48 + 20 + 15)
