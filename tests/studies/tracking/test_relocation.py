"""A root that was moved or copied works by itself, and a copy never changes its original."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from balance_tune.cli import main
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking import page
from balance_tune.studies.tracking.backend import connect, store_of
from balance_tune.studies.tracking.relocation import COLUMNS, follow_root
from balance_tune.studies.tracking.sync import sync
from tests.studies.tracking.written import WrittenStudy, runs_of

STUDY = "small"
MODEL = f"models:/{STUDY}-multiple_features@champion"


def contents(root: Path) -> dict[str, str]:
    """Return the digest of every file below a root."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def recorded(root: Path) -> set[str]:
    """Return every place of an artifact that MLflow has recorded, but for its experiment `Default`."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        places = {
            str(place)
            for table, columns in COLUMNS.items()
            for column in columns
            for (place,) in database.execute(f"SELECT {column} FROM {table}")
        }
    return {place for place in places if "mlartifacts" in place}


@pytest.fixture(params=["copied", "moved"])
def root(request: pytest.FixtureRequest, small_study: Path, tmp_path: Path) -> Iterator[Path]:
    """A root with a study that was run elsewhere; a copy's original stays as it was."""
    original, there = tmp_path / "original", tmp_path / "there with a blank"
    shutil.copytree(small_study.parent, original)
    follow_root(original / "mlflow.db", (original / "mlartifacts").as_uri())
    if request.param == "moved":
        original.rename(there)
        yield there
        assert not original.exists()
        return
    shutil.copytree(original, there)
    before = contents(original)
    yield there
    assert contents(original) == before


def test_evaluate_takes_the_model_of_this_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", MODEL, "--data", "multiple_features", "--root", str(root), "-f", "json"]
    assert main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["accuracy"] > 0.5
    assert {place.rpartition("/mlartifacts/")[0] for place in recorded(root)} == {root.as_uri()}
    for weights in (root / "mlartifacts").rglob("*.safetensors"):
        weights.unlink()
    assert main(argv) == 2  # those of the original are not taken


def test_the_address_of_its_database_may_be_relative(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root.name}/mlflow.db")
    assert main(["evaluate", MODEL, "--data", "multiple_features", "--root", str(root), "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.5
    assert {place.rpartition("/mlartifacts/")[0] for place in recorded(root)} == {root.as_uri()}


def test_best_and_report_read_this_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["best", STUDY, "--export", str(root / "winner")], ["report", STUDY], ["status", STUDY]):
        assert main([*argv, "--root", str(root)]) == 0
    assert (root / STUDY / "report" / "index.html").is_file()
    assert str(root / STUDY / "report") in capsys.readouterr().err


def test_a_run_that_goes_on_writes_into_this_root(root: Path) -> None:
    WrittenStudy(root, "second").begin(0).train(1).end()
    assert sync(root / "second", store_of(root), "complete")
    assert sync(root / STUDY, store_of(root), "complete")
    client = connect(store_of(root))
    runs = [*runs_of(client, "second").values(), *runs_of(client, STUDY).values()]
    assert runs
    assert all(run.info.artifact_uri.startswith(f"{root.as_uri()}/mlartifacts/") for run in runs)
    assert all(place.startswith(root.as_uri()) for place in recorded(root))


def test_ui_serves_this_root(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environments = []

    def started(command: list[str], env: dict[str, str], **more: object) -> SimpleNamespace:
        environments.append(env)
        return SimpleNamespace(poll=lambda: 0, returncode=0, pid=os.getpid())

    monkeypatch.setattr(page.subprocess, "Popen", started)
    monkeypatch.setattr(page, "_answers", lambda *_: True)
    monkeypatch.setattr(page, "_end", lambda server: None)
    page.ui(root)
    assert "/runs?workflowType=machine_learning" in capsys.readouterr().out
    assert environments[0]["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{root / 'mlflow.db'}"
    assert {place.rpartition("/mlartifacts/")[0] for place in recorded(root)} == {root.as_uri()}


def test_nothing_changes_while_another_study_of_the_root_runs(
    small_study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "mount"
    shutil.copytree(small_study.parent, root)
    before, place = recorded(root), (root / "mlartifacts").as_uri()
    with exclusive(StudyFolder(root) / STUDY), caplog.at_level(logging.WARNING):
        assert follow_root(root / "mlflow.db", place) == 0
        assert f"while {STUDY} runs" in caplog.text
        assert recorded(root) == before
        assert follow_root(root / "mlflow.db", place, running=STUDY) > 0
    assert follow_root(root / "mlflow.db", place) == 0
    assert stored_config(root / STUDY).name == STUDY


def test_a_database_elsewhere_keeps_its_places(small_study: Path, tmp_path: Path) -> None:
    """Several roots may be recorded there."""
    shutil.copy(small_study.parent / "mlflow.db", tmp_path / "mlflow.db")
    before = recorded(tmp_path)
    assert follow_root(tmp_path / "mlflow.db", (tmp_path / "root" / "mlartifacts").as_uri()) == 0
    assert follow_root(tmp_path / "none.db", (tmp_path / "mlartifacts").as_uri()) == 0
    assert recorded(tmp_path) == before
