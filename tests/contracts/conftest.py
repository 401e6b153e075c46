"""Prints what the contracts met that is neither success nor failure: refusals, and demands that do not apply."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

pytest.register_assert_rewrite("balance_tune.testing.modulations")

from balance_tune.testing.modulations import RECORD  # noqa: E402  (only after pytest knows that it holds assertions)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (method, case), reason in RECORD.refused.items():
        by_reason[method, reason].append(str(case))
    refusals = [f"{method} [{' '.join(cases)}]: {reason}" for (method, reason), cases in by_reason.items()]
    for title, lines in {
        "refused combinations": refusals,
        "methods that need encoders alike": _lines(RECORD.alike),
        "methods without a neutral setting": _lines(RECORD.without_neutral),
        "methods without a window": _lines(RECORD.without_window),
        "methods whose workers may differ": _lines(RECORD.workers),
        "methods that changed nothing somewhere": _lines(RECORD.rested),
    }.items():
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)


def _lines(reasons: dict[str, str]) -> list[str]:
    return [f"{method}: {reason}" for method, reason in sorted(reasons.items())]
