"""MLflow away or damaged: every command that asks it says so in one line, without the password, and nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from balance_tune.cli import main
from tests.studies.tracking.servers import free_port

SECRET = "kept-secret-7d"
COMMANDS = {
    "ui": ["ui", "small"],
    "reproduce": ["reproduce", "0" * 32],
    "evaluate": ["evaluate", "models:/small-multiple_features@champion", "--data", "multiple_features"],
    "delete": ["delete", "small", "--yes"],
}


@pytest.fixture
def root(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small study's folder and its MLflow store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BALANCE_TUNE_ROOT", str(tmp_path))
    shutil.copytree(small_study, tmp_path / "small", ignore=shutil.ignore_patterns("data", "trials"))
    shutil.copy(small_study.parent / "mlflow.db", tmp_path)
    return tmp_path


@pytest.fixture
def nowhere() -> str:
    """An address of this machine at which nobody listens."""
    return f"127.0.0.1:{free_port()}"


def refusal(capsys: pytest.CaptureFixture[str], command: str, root: Path) -> str:
    assert main(COMMANDS[command]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert SECRET not in line + told.out
    assert (root / "small" / "study.yaml").is_file()
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_store_that_is_away_is_one_line(
    command: str, scheme: str, root: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:{SECRET}@{nowhere}/there")
    line = refusal(capsys, command, root)
    assert "MLflow must answer, but" in line
    assert "onnection refused" in line
    assert "correct MLFLOW_TRACKING_URI" in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("damage", ["no database", "another version"])
def test_a_damaged_store_is_one_line_and_left_as_it_is(command: str, damage: str, root: Path, capsys: Any) -> None:
    file = root / "mlflow.db"
    if damage == "no database":
        file.write_bytes(b"not a database" * 1000)
    else:
        with sqlite3.connect(file) as database:
            database.execute("update alembic_version set version_num = 'ffffffffffff'")
        database.close()
    before = file.read_bytes()
    line = refusal(capsys, command, root)
    assert f"MLflow must answer, but sqlite:///{file} does not" in line
    assert "put a copy of it back" in line
    assert file.read_bytes() == before
