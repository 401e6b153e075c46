"""Marks as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from balance_tune.studies.results.report.shapes import Area, Disc, Line, Mark, Picture, Shape, Text, svg_of


@pytest.mark.parametrize(
    ("shape", "svg"),
    [
        (
            Line([(1, 2), (3.04, 4)], "#123", 2.0, "6 3"),
            '<path d="M1 2L3 4" fill="none" stroke="#123" stroke-width="2" stroke-dasharray="6 3" '
            'stroke-linejoin="round"/>',
        ),
        (Area([(0, 0), (1, 0), (1, 1)], "#123", 0.5), '<polygon points="0,0 1,0 1,1" fill="#123" opacity="0.5"/>'),
        (Disc((1, 2), 3, "#fff", "#000"), '<circle cx="1" cy="2" r="3" fill="#fff" stroke="#000" stroke-width="1.2"/>'),
        (Text((1, 2), "a < b", "#123", "end"), '<text x="1" y="2" fill="#123" text-anchor="end">a &lt; b</text>'),
    ],
)
def test_a_shape_is_one_element(shape: Shape, svg: str) -> None:
    assert svg_of(shape) == svg


def test_a_title_appears_near_its_target() -> None:
    root = ElementTree.fromstring(Mark([Disc((1, 2), 3, "#123")], "opm: <best>", (1, 2)).svg())
    assert [child.tag for child in root] == ["circle", "circle", "title"]
    assert (root[1].get("r"), root[1].get("fill"), root[2].text) == ("7", "transparent", "opm: <best>")


def test_a_picture_cuts_off_only_its_clipped_marks() -> None:
    mark = Mark([Disc((1, 2), 3, "#123")])
    picture = Picture(40, 30, "a & b", frame=[mark], clipped=[mark, mark], marks=[mark], floor=20)
    root = ElementTree.fromstring(picture.svg())
    assert root.get("aria-label") == "a & b"
    assert [child.tag for child in root] == ["circle", "svg", "circle"]
    assert (root[1].get("height"), len(root[1])) == ("20", 2)
