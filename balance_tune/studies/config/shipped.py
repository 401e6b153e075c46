"""The study files that ship with the package: `search_spaces/` of the repository."""

from __future__ import annotations

import re
from pathlib import Path

from balance_tune.package import FOLDER


def folder() -> Path:
    """Return the folder of the shipped study files: in the package where that is installed, else in the repository."""
    installed = FOLDER / "search_spaces"
    return installed if installed.is_dir() else FOLDER.parent / "search_spaces"


def shipped_studies() -> dict[str, Path]:
    """Return the name of each shipped study and its file."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def summary(text: str) -> str:
    """Return the first sentence of the comment that a study file begins with, without what is in parentheses."""
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("# ") or line.startswith("#   "):
            break
        comment.append(line.removeprefix("# "))
    return re.sub(r" \([^)]*\)", "", " ".join(comment)).split(". ")[0].rstrip(".")


def study_path(source: str | Path) -> Path:
    """Return the study file that is meant: a file, or a shipped study by its bare name."""
    path = Path(source)
    return path if path.is_file() or path.name != str(source) else shipped_studies().get(path.name, path)
