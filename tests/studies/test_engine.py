"""Whole studies on embedded data: run, run again, interrupted and resumed, refused, extended."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from balance_tune.errors import UserError
from balance_tune.studies import engine
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.data.stores import stores_of
from balance_tune.studies.engine import run_study
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol import provenance, study_record
from balance_tune.studies.protocol.selection import point_key
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.study_result import StudyResult

STUDY: dict[str, Any] = {
    "name": "small",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm"],
    "training": {"epochs": 4, "batch_size": 256},
    "search": {"trials": 3, "early_stopping": {"grace": 1, "reduction": 3}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
    "resources": {"max_concurrent": 1},
}


class NoTracker:
    """Stands in for MLflow; remembers what it was told."""

    told: list[tuple[Any, ...]]

    def __init__(self, *args: Any) -> None:
        NoTracker.told = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: NoTracker.told.append((name, *args))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow, and code that does not change while a test runs."""
    monkeypatch.setattr("balance_tune.studies.tracking.tracker.Tracker", NoTracker)
    monkeypatch.setattr(provenance, "code_of", lambda config: {"balance_tune": "000000000000"})


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose data is prepared already."""
    root = tmp_path_factory.mktemp("root")
    stores_of(load_config(STUDY), StudyFolder(root / "data"), print)
    return root


def root_of(tmp_path: Path, stores: Path) -> Path:
    (tmp_path / "data").symlink_to(stores / "data")
    return tmp_path


def run(root: Path, callbacks: list[tune.Callback] | None = None, **changes: Any) -> StudyResult:
    return run_study({**STUDY, **changes}, root=root, progress="none", callbacks=callbacks or [])


def told(folder: Path) -> list[tuple[Any, ...]]:
    """Return what the storage knows of every trial, without times."""
    return [
        (r.arm, r.phase, r.number, r.state, dict(r.params), r.value, dict(r.curve), r.seed, r.attrs["best_epoch"])
        for r in read_records(folder)
    ]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out times, and what an interruption costs."""
    return [{k: v for k, v in dict(row).items() if "seconds" not in k and k != "repeated"} for row in rows]


class Signal(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Sends the driver a signal when this run of the study has reported so many epochs of a phase."""

    def __init__(self, number: int, phase: str, at: int) -> None:
        self.number, self.phase, self.left = number, phase, at

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.left -= trial.config["phase"] == self.phase
        if self.left == 0:
            self.left = -1
            os.kill(os.getpid(), self.number)


@pytest.mark.ray
def test_a_study_runs_to_its_leaderboard_and_a_second_run_trains_nothing(
    tmp_path: Path, stores: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(tmp_path, stores)
    before: list[tuple[Any, list[str]]] = []
    result = run_study(
        STUDY,
        root=root,
        progress="none",
        on_leaderboard=lambda rows: before.append((rows, [name for name, *_ in NoTracker.told])),
    )
    assert result.state == "done"
    assert before == [(result.rows, ["start", "trials_over"])], "the leaderboard comes before MLflow is waited for"
    assert {row["method"] for row in result.rows} == {"joint", "ogm"}
    records = read_records(result.folder)
    assert Counter(r.arm for r in records if r.phase == "search") == dict.fromkeys({r.arm for r in records}, 3)
    assert all(r.finished for r in records)
    confirmed = [r for r in records if r.phase == "confirm"]
    assert confirmed
    for r in confirmed:
        test = json.loads((result.folder / r.attrs["folder"] / "test.json").read_text())
        assert 0 <= test["accuracy"] <= 1
    assert all(row["test_mean"] is not None for row in result.rows)
    assert [name for name, *_ in NoTracker.told] == ["start", "trials_over", "finish"]

    def no_ray(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("Ray must not be needed")

    monkeypatch.setattr(engine, "ray_for", no_ray)
    again = run(root)
    assert again.rows == result.rows
    assert read_records(result.folder) == records
    leftover = [p.name for p in result.folder.iterdir() if p.name.startswith(".")]
    assert leftover == []


@pytest.mark.ray
def test_a_study_stopped_in_search_select_and_confirm_and_resumed_is_the_one_that_was_never_stopped(
    tmp_path: Path, stores: Path, cluster: None
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = run(root_of(tmp_path / "whole", stores))
    cut = root_of(tmp_path / "cut", stores)
    for number, phase, at in (
        (signal.SIGTERM, "search", 5),
        (signal.SIGINT, "select", 1),
        (signal.SIGTERM, "confirm", 5),
    ):
        stopped = run(cut, [Signal(number, phase, at)])
        assert stopped.state == "interrupted"
        assert NoTracker.told[-1][0] == "interrupt"
        assert [r.phase for r in read_records(stopped.folder) if r.state == "running"] == [phase]
    resumed = run(cut)
    assert resumed.state == "done"
    assert told(resumed.folder) == told(whole.folder)
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert (resumed.folder / "ledger.jsonl").read_text() == (whole.folder / "ledger.jsonl").read_text()


class Disturb(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Kills the process of a trial, or stops it for a while, each time so many results have come."""

    def __init__(self, kills: set[int], pauses: set[int]) -> None:
        self.kills, self.pauses, self.results, self.killed, self.paused = kills, pauses, 0, 0, 0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.results += 1
        if self.results in self.kills:
            os.kill(result["pid"], signal.SIGKILL)
            self.killed += 1
        elif self.results in self.pauses:
            os.kill(result["pid"], signal.SIGSTOP)
            self.paused += 1
            subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {result['pid']}"])


@pytest.mark.ray
def test_the_leaderboard_is_the_same_with_one_slot_with_two_and_with_kills_and_pauses(
    tmp_path: Path, stores: Path, cluster: None
) -> None:
    def study(name: str, slots: int, *callbacks: tune.Callback) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        changes = {"replicates": 2, "placebo": True, "methods": ["joint"], "confirm": {"seeds": 1, "default_seeds": 1}}
        result = run(root_of(tmp_path / name, stores), [*callbacks], **changes, resources={"max_concurrent": slots})
        assert result.state == "done"
        left_out = ("lost", "preempted", "repeated")
        return [{k: v for k, v in row.items() if k not in left_out} for row in timeless(result.rows)]

    disturb = Disturb(kills={5, 14, 23, 31}, pauses={9})
    alone = study("alone", 1)
    assert study("two", 2) == alone
    assert study("disturbed", 2, disturb) == alone
    assert (disturb.killed, disturb.paused) == (4, 1)


@pytest.mark.ray
def test_with_two_slots_every_arm_still_gets_the_same_budget_to_the_trial(
    tmp_path: Path, stores: Path, cluster: None
) -> None:
    result = run(root_of(tmp_path, stores), resources={"max_concurrent": 2})
    records = read_records(result.folder)
    assert all(r.finished for r in records)
    for row in result.rows:
        own = [r for r in records if r.arm == row["arm"]]
        assert [r.number for r in own if r.phase == "search"] == [0, 1, 2]
        assert row["trials"] == row["complete"] + row["pruned"] + row["failed"] == 3
        assert len([r for r in own if r.phase == "select"]) == 2
        winner = Counter(r.seed for r in own if r.phase == "confirm" and r.attrs["point"] == point_key(row["params"]))
        assert sorted(winner.values()) == [1, 1]
    seeds = [sorted(r.seed or 0 for r in records if r.arm == row["arm"] and r.phase == "search") for row in result.rows]
    assert seeds[0] == seeds[1]


@pytest.mark.ray
def test_a_finished_study_is_extended_and_says_so(tmp_path: Path, stores: Path, cluster: None) -> None:
    root = root_of(tmp_path, stores)
    small: dict[str, Any] = {"methods": ["joint"], "search": {**STUDY["search"], "trials": 1}}
    before = run(root, **small)
    trials = told(before.folder)
    after = run(root, **{**small, "search": {**STUDY["search"], "trials": 2}})
    assert sum(r.phase == "search" for r in read_records(after.folder)) == 2
    assert all(trial in told(after.folder) for trial in trials)
    record = json.loads((after.folder / study_record.RECORD).read_text())
    (extension,) = record["extensions"]
    assert "search.trials" in extension["changes"][0]
    assert stored_config(after.folder).search.trials == 2


def begin(root: Path, stores: Path) -> Path:
    """Return the folder of a study that was begun, without running anything."""
    config = load_config(STUDY)
    folder = root / "small"
    folder.mkdir()
    _, manifests = stores_of(config, StudyFolder(root_of(root, stores) / "data"), print)
    assert provenance.begin_or_check(StudyFolder(folder), config, manifests) == ()
    return folder


def test_a_study_whose_file_has_changed_is_refused(tmp_path: Path, stores: Path) -> None:
    begin(tmp_path, stores)
    with pytest.raises(UserError, match="training"):
        run(tmp_path, training={"epochs": 5, "batch_size": 256})


@pytest.mark.parametrize(("part", "name"), [("code", "balance_tune"), ("packages", "torch")])
def test_a_study_whose_code_or_packages_have_changed_is_refused(
    tmp_path: Path, stores: Path, part: str, name: str
) -> None:
    folder = begin(tmp_path, stores)
    record = json.loads((folder / study_record.RECORD).read_text())
    record[part][name] = "other"
    (folder / study_record.RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"`{name}` has changed") as caught:
        run(tmp_path)
    assert "another `name`" in str(caught.value)


def test_a_study_whose_data_have_changed_is_refused(tmp_path: Path, stores: Path) -> None:
    folder = begin(tmp_path, stores)
    record = json.loads((folder / study_record.RECORD).read_text())
    record["data"]["multiple_features"]["split"] = "other"
    (folder / study_record.RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match="data or split of `multiple_features` has changed"):
        run(tmp_path)


def test_a_damaged_record_of_the_study_is_one_line(tmp_path: Path, stores: Path) -> None:
    folder = begin(tmp_path, stores)
    (folder / study_record.RECORD).write_text("{")
    with pytest.raises(UserError, match=r"study\.json"):
        run(tmp_path)


def test_a_second_driver_is_refused(tmp_path: Path, stores: Path) -> None:
    folder = begin(tmp_path, stores)
    with exclusive(StudyFolder(folder)), pytest.raises(UserError, match="one driver"):
        run(tmp_path)


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be a folder that can be written"):
        run(tmp_path / "file")


def test_a_root_that_is_no_folder_and_no_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a URI that pyarrow can open, but got nosuch://bucket/studies"):
        run_study(STUDY, root="nosuch://bucket/studies", progress="none")
    assert list(tmp_path.iterdir()) == []  # nor is there a folder of that name now


@pytest.mark.ray
def test_a_study_is_told_to_mlflow_by_a_driver_that_never_imports_it(
    tmp_path: Path, stores: Path, cluster: None
) -> None:
    import ray

    study = {**STUDY, "name": "told", "methods": ["joint"], "search": {**STUDY["search"], "trials": 1}}
    program = f"""
import sys
from ray import tune
from balance_tune.studies.engine import run_study
result = run_study({study!r}, root={str(root_of(tmp_path, stores))!r}, progress="none", callbacks=[tune.Callback()])
print(result.state, "mlflow" in sys.modules)
"""
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert told.stdout.split() == ["done", "False"], told.stderr
    database = next(tmp_path.rglob("mlflow.db"))
    with closing(sqlite3.connect(database)) as db:
        names = {name for (name,) in db.execute("SELECT name FROM runs WHERE status = 'FINISHED'")}
    assert "told" in names
    assert any("confirm" in name for name in names)
