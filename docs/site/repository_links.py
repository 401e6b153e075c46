"""A hook of mkdocs: links from the pages to other files of the repository work on the site too.

A page below docs/ may link to `../cluster/README.md`. Such files, and those that they link to, become part of the site
below `repository/`; Markdown files become pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
OUTSIDE = "repository/"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that pages link to, also by way of one another."""
    waiting = [page.src_uri for page in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(CODE.sub("", (REPOSITORY / _place(page)).read_text(encoding="utf-8"))):
            uri = _uri(posixpath.normpath(posixpath.join(posixpath.dirname(_place(page)), target)))
            path = REPOSITORY / _place(uri)
            if uri.startswith(OUTSIDE) and uri not in files.src_uris and path.is_file():
                files.append(File.generated(config, uri, abs_src_path=str(path)))
                if uri.endswith(".md"):
                    waiting.append(uri)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the files lie on the site."""
    source = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        uri = _uri(posixpath.normpath(posixpath.join(posixpath.dirname(_place(source)), match[1])))
        return posixpath.relpath(uri, posixpath.dirname(source) or ".")

    return LINK.sub(moved, markdown)


def _place(uri: str) -> str:
    """Return where a file of the site lies in the repository."""
    return uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else f"docs/{uri}"


def _uri(place: str) -> str:
    """Return the name on the site of a file of the repository."""
    return place.removeprefix("docs/") if place.startswith("docs/") else OUTSIDE + place
