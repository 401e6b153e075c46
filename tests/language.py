"""The text that people read: pages, comments, docstrings and messages, and phrases that must not be in it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md")

PHRASES = (  # sentences that stopped readers; each had a plain form
    "not to be compared with what torch",
    "not to be compiled what torch",
    "what a trial has left",
    "until somebody waits",
    "stands for itself",
    "leaves it alone",
    "has to bring from there",
    "for the time being",
    "costs what it was sending once more",
    "a rung may lie there",
    "what there is to be read is what was appended",
    "reading one waits for nothing",
    "receive what flows past",
    "hand on what should flow",
    "shallowest depth",
    "could have seen a difference",
    "can stand in any study",
    "nobody to be ahead of",
    "that MLflow could never use again",
    "papered over",
    "nobody has relied on it",
    "the one that stands for the arm",
    "until it has met the test rows",
    "trials that train nothing",
    "left as found",
)

VOCABULARY = {  # a pattern -> what to write in its place
    r"\b(nobody|somebody|someone|no one)\b(?!'s-)": "who it is: the user, a process, a trial, another driver",
    r"\btold\b": "reported, shown, named, or what the program does",
    r"\b(mend|mends|mended|mending)\b": "fix, correct",
    r"\b(crown|courier|outbox|spool)\b": "the field's word: register, worker, queue",
    r"\bhand(s|ed)? (it |them )?on\b": "pass, return",
    r"\bknows? nothing\b": "is independent of, does not use",
    r"\bsays? nothing\b": "is ignored, is not set, does not decide",
    r"\bfor good\b": "permanently, or nothing",
    r"\bin vain\b": "without effect, or for nothing",
    r"\bwithout a word\b": "without a message, without a report, silently",
    r"\bgot round\b": "avoided",
    r"\bflows? past\b": "the value that it takes",
    r"\b(is|are|was|were) away\b": "does not answer",
    r"\bbroke down over\b": "failed on",
    r"\b(see|sees|seen) to it that\b": "make, ensure",
    r"\bfrom now on\b": "from then on, afterwards",
}


NAMES = {
    *("asked", "believed", "doomed", "fallen", "found", "given", "gone", "heard", "kept", "known", "made", "said"),
    *("seen", "settled", "told", "warped"),
}
"""Variables and arguments that say how a value came about, not what it is: `rows`, `message`, `trial`, `names`."""


class Passage(NamedTuple):
    """A line of text and where it is."""

    file: str
    line: int
    text: str


def of_page(path: Path) -> Iterator[Passage]:
    """Yield the lines of a Markdown page outside of its code blocks."""
    code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.startswith("```"):
            code = not code
        elif not code:
            yield Passage(str(path.relative_to(ROOT)), number, re.sub(r"`[^`]*`", "``", line))


def of_module(path: Path) -> Iterator[Passage]:
    """Yield the lines of a module's comments, and of its strings of several words."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type != tokenize.COMMENT and not (token.type == tokenize.STRING and " " in token.string):
            continue
        for number, line in enumerate(token.string.splitlines(), start=token.start[0]):
            name = str(path.relative_to(ROOT))
            yield Passage(name, number, re.sub(r"\{[^{}]*\}|`[^`]*`", "``", line))  # code inside text is no text


def passages() -> Iterator[Passage]:
    """Yield every line that people read."""
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            yield from of_page(page)
    for module in sorted((ROOT / "balance_tune").rglob("*.py")):
        yield from of_module(module)


def complaints(texts: Sequence[Passage]) -> list[str]:
    """Return a line for each phrase that must not be there, with what to write instead; phrases may wrap once."""
    result = []
    for (file, number, text), after in zip(texts, [*texts[1:], Passage("", 0, "")], strict=True):
        rest = after.text.strip().lstrip("# ") if (after.file, after.line) == (file, number + 1) else ""
        both = f"{text.rstrip()} {rest}".lower()
        phrases = [phrase for phrase in PHRASES if phrase.lower() in both and phrase.lower() not in rest.lower()]
        result += [f"{file}:{number}: `{phrase}`; say it in plain words: subject, verb, one idea" for phrase in phrases]
        for pattern, instead in VOCABULARY.items():
            if match := re.search(pattern, text, re.IGNORECASE):
                result.append(f"{file}:{number}: `{match.group()}`; write {instead}")
    return result


def participles(source: str) -> list[tuple[int, str]]:
    """Return line and name of every variable and argument that is called by one of `NAMES`."""
    result = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NAMES:
            result.append((node.lineno, node.id))
        elif isinstance(node, ast.arg) and node.arg in NAMES:
            result.append((node.lineno, node.arg))
    return sorted(result)
