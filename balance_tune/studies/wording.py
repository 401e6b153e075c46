"""Formats user input for messages: one short printable line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 60


def one_line(text: str) -> str:
    """Return `text` without line breaks, runs of blanks and characters a terminal would act upon."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)


def shown(value: Any) -> str:
    """Return a value as a message shows it: between backticks, in YAML's words, at most 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length()} bits"
    text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else repr(value)
    line = one_line(text[: 4 * LONGEST])
    return f"`{line[:LONGEST]}...`" if len(line) > LONGEST or len(text) > 4 * LONGEST else f"`{line}`"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar known name, or None where nothing comes close."""
    close = difflib.get_close_matches(name[: 4 * LONGEST], list(names), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return " Did you mean `x`?", or a list of what there is, or nothing at all."""
    names = list(choices)
    near = nearest(name, names)
    if near is not None:
        return f" Did you mean `{near}`?"
    return f" There are: {', '.join(names)}." if names else ""
