"""Pages, docstrings, comments and messages are in plain English: riddles that were removed do not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import language
from tests.language import PHRASES, ROOT, VOCABULARY, Passage, complaints, of_module, of_page, participles, passages

EXAMPLES = (  # of each pattern of the vocabulary, in its order
    "nobody reads it",
    "the user is told",
    "mend it",
    "the courier sends it",
    "hands it on",
    "knows nothing of Ray",
    "the file says nothing",
    "removed for good",
    "was done in vain",
    "ended without a word",
    "is got round",
    "what flows past it",
    "the server is away",
    "Ray broke down over it",
    "see to it that it ends",
    "from now on",
)


def test_no_text_has_a_phrase_that_stops_readers() -> None:
    lines = complaints(list(passages()))
    assert not lines, "\n".join(lines)


def test_text_is_read_from_pages_docstrings_comments_and_messages() -> None:
    texts = list(passages())
    files = {passage.file for passage in texts}
    assert {"README.md", "CHANGELOG.md", "docs/protocol.md", "balance_tune/errors.py"} <= files
    assert any("one line" in passage.text for passage in texts if passage.file == "balance_tune/errors.py")


@pytest.mark.parametrize(("pattern", "example"), [*zip(VOCABULARY, EXAMPLES, strict=True)])
def test_every_pattern_is_noticed(pattern: str, example: str) -> None:
    (line,) = complaints([Passage("page.md", 3, example)])
    assert line.startswith("page.md:3: `")
    assert line.endswith(VOCABULARY[pattern])


@pytest.mark.parametrize("phrase", PHRASES)
def test_every_phrase_is_noticed_whatever_its_case(phrase: str) -> None:
    assert any(f"`{phrase}`" in line for line in complaints([Passage("page.md", 1, f"It {phrase.upper()}, it does.")]))


def test_a_phrase_that_wraps_is_noticed_once() -> None:
    lines = [Passage("page.md", 1, "# It is left as"), Passage("page.md", 2, "  # found, and that is all.")]
    assert [line.partition(";")[0] for line in complaints(lines)] == ["page.md:1: `left as found`"]


def test_code_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "ROOT", tmp_path)
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text("A line.\n```\nnobody\n```\n`nobody` and nobody\n")
    module.write_text('told = 1\nprint(f"the value {told}", "told")\nprint("it is told so")  # told\n')
    assert [line.partition(";")[0] for line in complaints(list(of_page(page)))] == ["page.md:5: `nobody`"]
    assert [line.partition(";")[0] for line in complaints(list(of_module(module)))] == ["module.py:3: `told`"] * 2


def test_variables_say_what_they_hold() -> None:
    modules = sorted((ROOT / "balance_tune").rglob("*.py"))
    lines = [f"{path.relative_to(ROOT)}:{n}: {name}" for path in modules for n, name in participles(path.read_text())]
    assert not lines, "\n".join(lines)


def test_a_participle_is_noticed_as_variable_and_argument_only() -> None:
    source = "def f(given, rows):\n    for made, x in rows:\n        x.found = rows.told\n    found = {'known': 1}\n"
    assert participles(source) == [(1, "given"), (2, "made"), (4, "found")]
