"""`balance-tune run`: what it hands to the engine, prints and returns."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from balance_tune.cli import main
from balance_tune.studies.storage.study_folder import StudyFolder, root_folder

ROWS = [{"dataset": "d", "method": "joint"}]
STUDY = "name: s\ndatasets: [av_digits]\nmethods: [joint]\n"


class Engine(ModuleType):
    """Remembers how it was called, and says that the study ended as told."""

    state = "done"
    reason = ""

    def run_study(self, config: Any, **given: Any) -> SimpleNamespace:
        self.config, self.given = config, given
        return SimpleNamespace(
            rows=ROWS, folder=Path(given["root"]) / config.name, state=self.state, reason=self.reason
        )


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    module = Engine("balance_tune.studies.engine")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("balance_tune.studies.results.tables.as_text", lambda rows: f"{len(rows)} row")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(STUDY)
    return module


def test_the_study_runs_below_the_root_and_its_leaderboard_is_printed(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "s.yaml", "--root", "there"]) == 0
    assert engine.config.name == "s"
    assert engine.given["on_leaderboard"] is not None
    assert {name: engine.given[name] for name in ("root", "progress", "retry_failed")} == {
        "root": "there", "progress": "auto", "retry_failed": False,
    }  # fmt: skip
    assert (tmp_path / "there").is_dir()
    assert capsys.readouterr() == ("1 row\n", "")


def test_a_job_keeps_its_study_where_it_outlives_the_jobs_own_folder_and_says_where(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    job.mkdir(parents=True)
    (job / "s.yaml").write_text(STUDY)
    monkeypatch.chdir(job)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("BALANCE_TUNE_ROOT", raising=False)
    assert main(["run", "s.yaml"]) == 0
    assert root_folder(engine.given["root"]) == StudyFolder(tmp_path / "home" / "studies")
    assert f"the study is {tmp_path / 'home' / 'studies' / 's'} on" in capsys.readouterr().err
    assert main(["run", "s.yaml", "--root", str(tmp_path / "given")]) == 0
    assert root_folder(engine.given["root"]) == StudyFolder(tmp_path / "given")


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "s.yaml", "search.trials=4", "seed=2", "--root", "r"],
        ["run", "--root", "r", "s.yaml", "search.trials=4", "seed=2"],
        ["run", "s.yaml", "--root", "r", "search.trials=4", "seed=2"],
        ["--root", "r", "run", "s.yaml", "search.trials=4", "-q", "seed=2"],
    ],
)
def test_overrides_may_stand_anywhere_behind_the_file(engine: Engine, argv: list[str]) -> None:
    assert main(argv) == 0
    assert (engine.config.search.trials, engine.config.seed) == (4, 2)
    assert main(["run", "s.yaml"]) == 0
    assert engine.config.seed == 0


def test_json_prints_the_rows_alone(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "s.yaml", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == ROWS
    assert engine.given["progress"] == "json"


@pytest.mark.parametrize(("state", "status"), [("interrupted", 130), ("limited", 0), ("halted", 1)])
def test_a_study_that_ended_early_says_how_to_go_on(
    engine: Engine, state: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.state, engine.reason = state, "some reason"
    assert main(["run", "s.yaml", "-q", "datasets=[watch]", "--root", "a b"]) == status
    told = capsys.readouterr()
    assert told.out == "1 row\n"
    assert "(some reason)" in told.err
    assert told.err.endswith("The same command goes on: balance-tune run s.yaml 'datasets=[watch]' --root 'a b'\n")
