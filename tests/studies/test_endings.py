"""How a run of a study ends: the table in docs/operating.md is what the command does."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from balance_tune import timeouts
from balance_tune.cli import main
from balance_tune.commands.run import ENDINGS
from balance_tune.studies.study_result import Ending, StudyResult

TEXT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
STUDY = "name: tiny\ndatasets: [multiple_features]\nmethods: [joint]\n"


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its first two lines."""
    (body,) = re.findall(rf"^### {heading}\n(.*?)^#", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ROWS = table("How a run ends")


def test_the_table_has_every_state_in_its_order() -> None:
    states = [row[0].strip("`") for row in ROWS if row[0].startswith("`")]
    assert states == list(ENDINGS) == list(get_args(Ending))


@pytest.mark.parametrize("row", [row for row in ROWS if row[0].startswith("`")], ids=lambda row: row[0])
def test_a_run_ends_as_the_table_says(
    row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state: Any = row[0].strip("`")
    engine = ModuleType("balance_tune.studies.engine")
    result = StudyResult([], tmp_path, state, "" if state == "done" else "the reason")
    engine.run_study = lambda *words, **more: result  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "balance_tune.studies.engine", engine)
    (tmp_path / "s.yaml").write_text(STUDY)
    status = main(["run", str(tmp_path / "s.yaml"), "--root", str(tmp_path / "r")])
    assert str(status) == row[1]
    told = capsys.readouterr().err.splitlines()
    if state == "done":
        assert told == []
        return
    assert told[-1].startswith(f"{row[2].partition(' (')[0]} (the reason). ")
    assert f"balance-tune run {tmp_path}/s.yaml" in told[-1]
    assert ("--retry-failed" in told[-1]) == ("--retry-failed" in row[3])


def test_what_is_refused_has_the_status_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (status,) = [row[1] for row in ROWS if row[0] == "refused"]
    assert str(main(["run", str(tmp_path / "none.yaml")])) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_table_of_times_is_that_of_the_code() -> None:
    told = {row[0].strip("`"): float(row[1]) for row in table("How long something is waited for")}
    assert told == timeouts.DEFAULTS
