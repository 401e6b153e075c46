"""A study under a server that dies in the middle and comes back: nothing is lost, nothing is there twice."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from ray import tune

from balance_tune.studies.deletion import delete_study
from balance_tune.studies.engine import run_study
from balance_tune.studies.loading import load_config
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.runs import TAG, RunKey, metrics_of
from balance_tune.studies.tracking.sync import Sync
from tests.studies import in_process
from tests.studies.postgres import PASSWORD
from tests.studies.tracking.servers import Server, ServerProcess, ServerThread

STUDY: dict[str, Any] = {
    "name": "served",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm_ge"],
    "training": {"epochs": 3, "batch_size": 128},
    "search": {"trials": 6, "sampler": "random", "early_stopping": {"grace": 1, "reduction": 2}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
}


def stored(backend: str, study: str) -> tuple[Counter[RunKey], dict[str, RunKey], list[tuple[RunKey, str, int, float]]]:
    """Return how often each run is in MLflow's database, its states, and every metric of every epoch."""
    import sqlalchemy as sql

    engine = sql.create_engine(backend)
    with engine.connect() as db:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in db.execute(sql.text("SELECT run_uuid, key, value FROM tags")):
            tags.setdefault(run, {})[key] = value
        rows = db.execute(sql.text("SELECT run_uuid, key, step, value FROM metrics")).all()
    engine.dispose()
    keys = {run: RunKey.of_tags(own) for run, own in tags.items() if own.get(f"{TAG}study") == study}
    states = {own[f"{TAG}state"]: keys[run] for run, own in tags.items() if run in keys}
    epochs = ("val/", "train/", "modulation/", "time/")
    metrics = [
        (keys[run], key, step, value) for run, key, step, value in rows if run in keys and key.startswith(epochs)
    ]
    return Counter(keys.values()), states, metrics


def check(backend: str, folder: Path) -> int:
    """Hold MLflow's database to what Optuna and the trials' own histories say; return the number of trials."""
    runs, states, metrics = stored(backend, folder.name)
    records = read_records(folder)
    trials = {RunKey(r.arm, r.phase, r.number) for r in records}
    assert set(runs) == trials | {RunKey(r.arm) for r in records} | {RunKey()}
    assert set(runs.values()) == {1}, "no run is there twice"
    assert set(states) <= {"complete", "pruned", "failed"}, "nothing is left as running"
    expected = {
        (RunKey(r.arm, r.phase, r.number), name, int(row["epoch"])): value
        for r in records
        for row in durable.json_lines(folder / str(r.attrs["folder"]) / "history.jsonl")
        if int(row["epoch"]) <= r.epochs
        for name, value in metrics_of(row).items()
    }
    assert {(key, name, step): value for key, name, step, value in metrics} == expected
    assert len(metrics) == len(expected), "no metric is there twice"
    return len(records)


@pytest.fixture
def thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerThread]:
    made = ServerThread(f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "artifacts")
    made.start()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    yield made
    made.close()


def test_a_study_loses_nothing_while_its_server_is_away(
    thread: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes after the fourth trial and comes back after the twelfth."""
    ended = failures = 0

    def on_trial(live: Sync) -> None:
        nonlocal ended, failures
        ended += 1
        if ended == 12:
            thread.start()
        try:
            live.run("running")
        except MlflowException:
            failures += 1
        if ended == 4:
            thread.kill()

    folder = tmp_path / "served"
    config = load_config({**STUDY, "mlflow": {"tracking_uri": thread.url}})
    in_process.run(config, folder, tracked=True, on_trial=on_trial)
    assert failures == 7
    assert check(f"sqlite:///{tmp_path / 'server.db'}", folder) == ended >= 16

    artifacts = tmp_path / "artifacts"
    assert list(artifacts.rglob("best.safetensors"))
    (remark,) = delete_study(StudyFolder(folder))
    assert "marked as deleted" in remark
    assert [path for path in artifacts.rglob("*") if path.is_file()] == []


class Outage(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Kills the server when `after` trials have ended, and starts it again `seconds` later."""

    def __init__(self, server: Server, after: int, seconds: float) -> None:
        self.server, self.left = server, after
        self.back = threading.Timer(seconds, server.start)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.server.kill()
            self.back.start()


class NoTracker:
    """A study without MLflow."""

    def __init__(self, *args: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


LONG = {
    **STUDY,
    "name": "long",
    "datasets": ["av_digits"],
    "methods": ["joint", "ogm_ge", "opm", "mlb"],
    "training": {"epochs": 5},
    "search": {"trials": 45, "sampler": "random", "early_stopping": "none"},
    "resources": {"max_concurrent": 1},  # the server and its database have a core of their own
}


@pytest.mark.full
@pytest.mark.ray
def test_two_hundred_trials_on_postgresql_survive_half_a_minute_without_their_server(
    cluster: None, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("balance_tune.studies.tracking.tracker.Tracker", NoTracker)
        began = time.perf_counter()
        run_study({**LONG, "name": "plain"}, root=tmp_path, progress="none")
        plain = time.perf_counter() - began
    server = ServerProcess(postgres, tmp_path / "artifacts")
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        seconds = {}
        for name, callbacks in {"steady": [], "shaken": [Outage(server, 60, 30.0)]}.items():
            began = time.perf_counter()
            result = run_study({**LONG, "name": name}, root=tmp_path, progress="none", callbacks=callbacks)
            seconds[name] = time.perf_counter() - began
            for outage in callbacks:
                outage.back.join()
            assert check(postgres, result.folder) >= 200
        secret = PASSWORD
        told = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 2**22]
        assert not [path for path in told if secret.encode() in path.read_bytes()]
    finally:
        server.kill()
    with capsys.disabled():
        told = ", ".join(f"{name} {s:.1f} s ({100 * (s / plain - 1):+.1f} %)" for name, s in seconds.items())
        print(f"\n200 trials without MLflow {plain:.1f} s, with it on PostgreSQL: {told}")
