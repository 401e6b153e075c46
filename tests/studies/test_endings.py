"""How a run of a study ends: the table in docs/operating.md is what the command does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from balance_tune import timeouts
from balance_tune.cli import main
from balance_tune.commands.run import ENDINGS
from balance_tune.studies.loading import load_config
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.study_folder import StudyFolder
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


DRIVER = """
import sys
from pathlib import Path
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
with exclusive(StudyFolder(Path(sys.argv[1]))):
    storage = open_storage(StudyFolder(Path(sys.argv[1])))
    optuna.create_study(storage=storage, study_name="multiple_features/joint").ask()
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_a_study_that_was_killed_is_not_running_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (status, said, remedy) = next(row[1:] for row in ROWS if row[0].startswith("killed (-9"))
    folder = tmp_path / "tiny"
    folder.mkdir()
    (tmp_path / "s.yaml").write_text(STUDY)
    (folder / "study.yaml").write_text(load_config(tmp_path / "s.yaml").as_yaml())
    command = [sys.executable, "-c", DRIVER, str(folder)]
    pipes: dict[str, int] = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as driver:
        assert driver.stdout is not None
        assert driver.stderr is not None
        assert driver.stdout.readline() == "begun\n"
        assert main(["status", "tiny", "--root", str(tmp_path)]) == 0
        assert capfd.readouterr().out.startswith("tiny is running; 0 s of device time so far.\n")
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        assert (status, said) == (str(128 + signal.SIGKILL), "nothing")  # as a shell says it
        assert driver.stdout.read() + driver.stderr.read() == ""
    assert main(["status", "tiny", "--root", str(tmp_path)]) == 0
    output = capfd.readouterr().out
    assert output.startswith("tiny is not running; 0 s of device time so far; 1 trial was interrupted, and the same")
    assert "the same command goes on" in remedy
    assert "`balance-tune run` goes on.\n" in output
    with exclusive(StudyFolder(folder)):  # the next driver need not wait for the dead one
        assert main(["status", "tiny", "--root", str(tmp_path), "-f", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["running"] is True


def test_every_row_of_the_table_has_a_test_here() -> None:
    states = {f"`{state}`" for state in ENDINGS}
    assert [row[0] for row in ROWS if row[0] not in states] == ["refused", "killed (-9, or a machine that is lost)"]


def test_the_table_of_times_is_that_of_the_code() -> None:
    times = {row[0].strip("`"): float(row[1]) for row in table("Timeouts")}
    assert times == timeouts.DEFAULTS
