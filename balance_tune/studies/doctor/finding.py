"""The result of one check (ok, warn or fail) and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check; `remedy` says what to do unless all is well."""

    check: str
    state: State
    words: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.check:<12}  {self.words}" + (f"; {self.remedy}" if self.remedy else "")


def ok(check: str, words: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, "ok", words)


def warn(check: str, words: str, remedy: str) -> Finding:
    """Return a finding that may matter, and what to do."""
    return Finding(check, "warn", words, remedy)


def fail(check: str, words: str, remedy: str) -> Finding:
    """Return a finding that a study would fail on, and what to do."""
    return Finding(check, "fail", words, remedy)
