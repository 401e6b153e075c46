"""How values are written, by their unit; and that every column says what it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.results.columns import p_text, percent
from balance_tune.studies.results.leaderboard import COLUMNS, LeaderboardRow
from balance_tune.tasks import Objective


@pytest.mark.parametrize(
    ("name", "value", "shares", "errors"),
    [
        ("complete", 7, "7", "7"),
        ("device_seconds", 12.34, "12.3", "12.3"),
        ("val", 0.9512, "95.1", "0.951"),
        ("test_mean", 0.9512, "95.1", "0.951"),
        ("test_ci", (0.94, 0.96), "94.0 to 96.0", "0.940 to 0.960"),
        ("delta", -0.0123, "\N{MINUS SIGN}1.2", "\N{MINUS SIGN}0.012"),
        ("delta_ci", (-0.01, 0.02), "\N{MINUS SIGN}1.0 to +2.0", "\N{MINUS SIGN}0.010 to +0.020"),
        ("p_holm", 0.0001, "< 0.001", "< 0.001"),
        ("saved", 0.42, "42 %", "42 %"),
        ("seeds", (3, 4), "3, 4", "3, 4"),
        ("default_won", True, "yes", "yes"),
        ("params", {"lr": 0.1}, '{"lr": 0.1}', '{"lr": 0.1}'),
        ("test_by_modality", {"audio": 0.5}, "audio 50.0", "audio 0.500"),
        ("delta", None, "-", "-"),
    ],
)
def test_a_value_is_written_in_the_unit_of_its_column(name: str, value: Any, shares: str, errors: str) -> None:
    assert COLUMNS[name].text(LeaderboardRow(**{name: value})) == shares
    mae = {"metric": Objective("mae"), "objective": Objective("val/mae")}
    assert COLUMNS[name].text(LeaderboardRow(**{**mae, name: value})) == errors


def test_p_values_are_written_as_papers_print_them() -> None:
    assert [p_text(p) for p in (None, 0.0004, 0.0236, 0.0999, 0.1, 1.0)] == [
        "-", "< 0.001", "0.024", "0.100", "0.10", "1.00",
    ]  # fmt: skip
    assert (percent(None), percent(0.123), percent(0.4251, 0)) == ("-", "12.3", "43")


def test_every_column_has_one_sentence_of_meaning() -> None:
    for column in COLUMNS.values():
        assert re.fullmatch(r"[\w\"`].*\.", column.meaning), column.name
    assert len({column.meaning for column in COLUMNS.values()}) == len(COLUMNS)


def test_the_documentation_lists_every_column() -> None:
    lines = ["| column | meaning | unit | table | MLflow |", "|---|---|---|---|---|"]
    for c in COLUMNS.values():
        mlflow = f"`leaderboard/{c.name}`" if c.mlflow else ""
        lines.append(f"| `{c.name}` | {c.meaning} | {c.unit.name} | {c.header} | {mlflow} |")
    listed = "\n".join(lines)
    documentation = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    assert listed in documentation, f"docs/protocol.md must list the columns as follows:\n{listed}"
