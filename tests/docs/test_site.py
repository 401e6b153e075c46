"""The site builds without a warning, no link is dead, and nothing is fetched from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REPOSITORY = Path(__file__).parents[2]


class Page(HTMLParser):
    """The links, the anchors and the parts that a browser fetches of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in ("script", "img", "iframe", "source"):
            self.fetched |= {values[name] for name in ("src", "srcset") if name in values}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.add(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {path: Page(path) for path in folder.rglob("*.html")}


def test_no_link_is_dead(site: dict[Path, Page]) -> None:
    dead = []
    for path, page in site.items():
        for link in {*page.links, *page.fetched}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in site and anchor not in site[target].anchors):
                dead.append((path.name, link))
    assert not dead


def test_nothing_comes_from_another_host(site: dict[Path, Page]) -> None:
    foreign = [(path.name, link) for path, page in site.items() for link in page.fetched if urlsplit(link).netloc]
    assert not foreign
    folder = next(path.parent for path in site if path.name == "404.html")
    for style in folder.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", style.read_text(encoding="utf-8")), style.name


def test_every_page_of_the_documentation_is_on_the_site(site: dict[Path, Page]) -> None:
    folder = next(path.parent for path in site if path.name == "404.html")
    for page in (REPOSITORY / "docs").rglob("*.md"):
        assert (folder / page.relative_to(REPOSITORY / "docs").with_suffix(".html")).is_file(), page
    assert (folder / "repository" / "cluster" / "aws.yaml").is_file()
