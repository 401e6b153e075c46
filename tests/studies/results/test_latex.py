"""The leaderboard as LaTeX: escaped, bold by the verdict, and it compiles where there is a LaTeX."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.results.latex import as_latex, escape, selection_in_words
from balance_tune.studies.results.leaderboard import LeaderboardRow
from tests.studies.results.rows import table_of


def test_special_characters_are_escaped() -> None:
    assert escape("a_b & 5 % #1 $x {y} ~ ^ \\") == (
        r"a\_b \& 5 \% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


def test_bold_is_what_the_verdict_calls_better_not_the_largest_mean() -> None:
    table = table_of({"mlb": [0.02, 0.021, 0.019, 0.02, 0.02], "opm": [0.2, -0.1, 0.15, -0.05, 0.1]})
    text = as_latex(table, {"search": {"trials": 4}, "select": {}, "confirm": {}})
    lines = {line.split(" & ")[0].strip(): line for line in text.splitlines() if " & " in line}
    assert r"\textbf{mlb}" in lines
    assert "opm" in lines
    assert text.count(r"\textbf{") == lines[r"\textbf{mlb}"].count(r"\textbf{") == 3  # method, difference, verdict


def test_the_paragraph_tells_protocol_and_version() -> None:
    rows = [dataclasses.replace(r, replicates=5, splits_redrawn=True) for r in table_of({"mlb": [0.1, 0.2, 0.1]})]
    text = as_latex(rows, {"search": {"trials": 6}, "select": {"points": 1, "seeds": 1}, "confirm": {"seeds": 2}})
    assert "5 independent replicates with its own split, search and seeds" in text
    assert "The best point and the default were compared on one fresh seed" in text
    assert r"balance\_tune" in text


@pytest.mark.parametrize(
    ("points", "seeds", "words"),
    [
        (4, 2, "The best 4 points and the default were compared on 2 fresh seeds by validation, the worse half"),
        (4, 1, "The best 4 points and the default were compared on one fresh seed by validation, and the default"),
        (4, 0, "The point of the best search trial was chosen."),
    ],
)
def test_the_paragraph_says_how_points_are_selected(points: int, seeds: int, words: str) -> None:
    assert selection_in_words(Rule(points=points, select_seeds=seeds, margin=1.0)).startswith(words)


def has_latex() -> bool:
    """Return whether pdflatex and the package booktabs are installed."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_latex(), reason="no pdflatex with booktabs on this machine")
def test_it_compiles(study: Path, rows: list[LeaderboardRow], tmp_path: Path) -> None:
    body = as_latex(rows, strict_yaml.read(study / "study.yaml"))
    head = r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{body}\n" + r"\end{document}")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout  # no table is wider than the text of a page
