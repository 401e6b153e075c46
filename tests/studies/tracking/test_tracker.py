"""What a study looks like in MLflow, from a store that is real."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.storage.records import TrialRecord
from balance_tune.studies.tracking import live
from balance_tune.studies.tracking.tracker import Tracker
from tests.studies.tracking.conftest import MANIFEST
from tests.studies.tracking.told import ATTRS, result, trial

Make = Callable[..., Tracker]


def runs_of(client: Any, name: str) -> dict[str, Any]:
    """Return the study's runs by name; a duplicate fails the test."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return {}
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    counts = Counter(run.info.run_name for run in found)
    assert max(counts.values(), default=0) <= 1, counts
    return {run.info.run_name: run for run in found}


def tag(run: Any, name: str) -> str | None:
    value: str | None = run.data.tags.get("balance_tune." + name)
    return value


def train(tracker: Tracker, number: int, epochs: int = 3, state: str = "complete", **more: Any) -> None:
    config = trial(number, **more)
    tracker.trial_started(config)
    for epoch in range(1, epochs + 1):
        tracker.trial_reported(config, result(epoch))
    tracker.trial_finished(config["arm"], config["phase"], number, state, {**ATTRS, "phase": config["phase"]})


def study_name(tracker: Tracker) -> str:
    return tracker._config.name


def record(number: int, state: Any = "complete", phase: Any = "search", **attrs: Any) -> TrialRecord:
    return TrialRecord(
        "av_digits/mlb", "av_digits", "mlb", phase, number, state, {"training.lr": 0.1}, 7, 0.52,
        attrs={**ATTRS, **attrs},
    )  # fmt: skip


def steps(client: Any, run: Any, metric: str = "val/accuracy") -> list[int]:
    return [m.step for m in client.get_metric_history(run.info.run_id, metric)]


def test_trials_hang_below_their_arm_and_arms_below_the_study(tracker: Make, client: Any) -> None:
    t = tracker()
    for number, state in enumerate(["complete", "pruned", "failed"]):
        train(t, number, state=state)
    t.interrupt()
    runs = runs_of(client, study_name(t))
    name = study_name(t)
    assert set(runs) == {
        name, "av_digits / joint", "av_digits / mlb",
        "av_digits / mlb / 000", "av_digits / mlb / 001", "av_digits / mlb / 002",
    }  # fmt: skip
    parent = {n: run.data.tags.get("mlflow.parentRunId") for n, run in runs.items()}
    assert parent[name] is None
    assert parent["av_digits / mlb"] == runs[name].info.run_id
    assert parent["av_digits / mlb / 001"] == runs["av_digits / mlb"].info.run_id


def test_a_trial_tells_how_it_ended_and_with_what_it_was_trained(tracker: Make, client: Any) -> None:
    t = tracker()
    for number, state in enumerate(["complete", "pruned", "failed"]):
        train(t, number, state=state)
    t.trial_finished(
        "av_digits/mlb", "search", 2, "failed", {**ATTRS, "reason": "Diverged: val/loss is nan in epoch 3"}
    )
    t.interrupt()
    runs = runs_of(client, study_name(t))
    trials = [runs[f"av_digits / mlb / 00{i}"] for i in range(3)]
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED", "FAILED"]
    assert [tag(run, "state") for run in trials] == ["complete", "pruned", "failed"]
    assert tag(trials[2], "reason") == "Diverged: val/loss is nan in epoch 3"
    assert trials[1].data.params["training.lr"] == "1.1"
    assert trials[0].data.params["model.fusion"] == "concat"
    expected = {
        "dataset": "av_digits", "method": "mlb", "seed": "7", "split_hash": "5p1it",
        "data_hash": MANIFEST.data_hash, "phase": "search", "number": "1", "kind": "trial",
    }  # fmt: skip
    assert {name: tag(trials[1], name) for name in expected} == expected
    assert tag(trials[1], "code_version")


def test_every_epoch_is_there_once_with_the_modalities_and_coefficients(tracker: Make, client: Any) -> None:
    t = tracker()
    train(t, 0, epochs=20)
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / 000"]
    for metric in ("val/accuracy", "val/accuracy/audio", "modulation/k/audio", "train/loss", "time/epoch_s", "val/gap"):
        assert steps(client, run, metric) == list(range(1, 21))
    assert set(run.data.metrics) == {
        "val/accuracy", "val/accuracy/audio", "val/accuracy/image", "val/gap", "train/loss", "modulation/k/audio",
        "time/epoch_s", "trial/best/val/accuracy", "trial/best_epoch", "trial/device_seconds",
    }  # fmt: skip


def test_a_resumed_study_adds_to_its_runs_and_makes_none_twice(tracker: Make, client: Any) -> None:
    first = tracker()
    train(first, 0)
    first.trial_started(trial(1))
    for epoch in (1, 2):
        first.trial_reported(trial(1), result(epoch))
    first.interrupt()
    runs = runs_of(client, study_name(first))
    assert tag(runs["av_digits / mlb / 001"], "state") == "interrupted"
    assert runs["av_digits / mlb / 001"].info.status == "KILLED"

    second = tracker()
    second.reconcile([record(0), record(1, "running")])
    second.trial_started(trial(1))
    for epoch in (2, 3):  # epoch 2 was reported, but its checkpoint was not written
        second.trial_reported(trial(1), result(epoch))
    second.trial_finished("av_digits/mlb", "search", 1, "complete", ATTRS)
    second.interrupt()
    runs = runs_of(client, study_name(first))
    assert steps(client, runs["av_digits / mlb / 001"]) == [1, 2, 3]
    assert steps(client, runs["av_digits / mlb / 000"]) == [1, 2, 3]
    assert tag(runs["av_digits / mlb / 001"], "state") == "complete"
    assert runs["av_digits / mlb / 001"].info.status == "FINISHED"


def test_what_only_optuna_knows_is_written_on_resume(tracker: Make, client: Any) -> None:
    t = tracker()
    train(t, 0)
    t.interrupt()
    folder = t._folder / "trials" / "lost"
    folder.mkdir(parents=True)
    lines = [json.dumps({"epoch": e, "val/accuracy": e / 10, "device_seconds": 1}) for e in (1, 2, 3)]
    (folder / "history.jsonl").write_text("\n".join(lines) + '\n{"epoch": 4, "val/acc')
    (folder / "test.json").write_text('{"accuracy": 0.9, "accuracy/audio": 0.5, "n": 10}')
    t = tracker()
    t.reconcile([record(0), record(1, phase="confirm", folder="trials/lost")])
    t.interrupt()
    runs = runs_of(client, study_name(t))
    lost = runs["av_digits / mlb / confirm 001"]
    assert steps(client, lost) == [1, 2, 3]
    assert lost.data.params["training.lr"] == "0.1"
    assert lost.data.params["training.epochs"] == "20"
    assert lost.data.metrics["test/accuracy/audio"] == 0.5
    assert tag(lost, "state") == "complete"
    assert steps(client, runs["av_digits / mlb / 000"]) == [1, 2, 3]


def test_a_sealed_result_that_a_crash_kept_from_mlflow_is_added_to_its_run(tracker: Make, client: Any) -> None:
    t = tracker()
    train(t, 0, phase="confirm")
    t.interrupt()
    folder = t._folder / "trials" / "sealed"
    folder.mkdir(parents=True)
    (folder / "test.json").write_text('{"accuracy": 0.9}')
    t = tracker()
    t.reconcile([record(0, phase="confirm", folder="trials/sealed")])
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / confirm 000"]
    assert run.data.metrics["test/accuracy"] == 0.9
    assert steps(client, run) == [1, 2, 3]


def test_a_run_left_running_by_a_killed_driver_is_ended_by_what_optuna_says(
    tracker: Make, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TOGETHER", 0.0)
    t = tracker(linger=0.0)
    t.trial_started(trial(0))
    t.trial_reported(trial(0), result(1))
    assert t._outbox is not None
    assert t._outbox.stop(30)
    t = tracker()  # the driver was killed: nothing more was said
    t.reconcile([record(0, "failed", reason="lost three times")])
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / 000"]
    assert run.info.status == "FAILED"
    assert tag(run, "reason") == "lost three times"
    assert steps(client, run) == [1]


def test_test_metrics_come_from_the_sealed_evaluation_alone(tracker: Make, client: Any, tmp_path: Path) -> None:
    t = tracker()
    train(t, 0, phase="confirm")
    t.trial_reported(trial(0, phase="confirm"), result(4, **{"test/accuracy": 0.1}))
    t.sealed(
        "av_digits/mlb", 0, {"accuracy": 0.97, "accuracy/audio": 0.8, "loss": 0.2, "correct": "abc", "n": 3}, tmp_path
    )
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / confirm 000"]
    test = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert test == {"test/accuracy": 0.97, "test/accuracy/audio": 0.8, "test/loss": 0.2}


def test_the_study_run_holds_its_settings_and_where_it_ran(tracker: Make, client: Any) -> None:
    t = tracker(config={"search": {"trials": 3, "space": {"mlb": {"alpha": {"low": 0.1, "high": 0.2}}}}})
    train(t, 0)
    t.interrupt()
    run = runs_of(client, study_name(t))[study_name(t)]
    assert run.data.params["search.trials"] == "3"
    assert run.data.params["search.space.mlb.alpha.low"] == "0.1"
    assert {tag(run, name) is not None for name in ("host", "python", "torch", "mlflow", "objective")} == {True}
    assert tag(run, "dirty") in ("true", "false")
    assert run.data.tags["mlflow.source.name"].startswith("balance-tune ")
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("av_digits", MANIFEST.data_hash[:36])
    assert json.loads(data.dataset.profile)["rows"] == {"train": 5}
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["study.yaml"]


def test_a_trials_run_holds_what_it_takes_to_train_it_again_and_no_place_of_this_machine(
    tracker: Make, client: Any, tmp_path: Path
) -> None:
    t = tracker()
    config = trial(
        0, phase="confirm", gpus=0, cpus=1, folder="/here/trials/x", store="/here/data", scratch="/here/.tune"
    )
    t.trial_started(config)
    t.trial_reported(config, result(1, hostname="node-3"))
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / confirm 000"]
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, "trial.json", str(tmp_path))).read_text())
    portable = {name: value for name, value in config.items() if name not in ("folder", "store", "scratch")}
    assert {name: stored[name] for name in portable} == portable
    assert (stored["data_hash"], stored["split_hash"]) == (MANIFEST.data_hash, "5p1it")
    assert "/here" not in json.dumps(stored)
    assert (tag(run, "host"), tag(run, "device")) == ("node-3", "cpu")
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["av_digits"]


def test_a_trial_that_only_optuna_knows_gets_its_configuration_too(tracker: Make, client: Any, tmp_path: Path) -> None:
    t = tracker()
    params = {"training.lr": 0.2}
    t.reconcile([TrialRecord("av_digits/mlb", "av_digits", "mlb", "search", 4, "pruned", params, 7, attrs=ATTRS)])
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / 004"]
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, "trial.json", str(tmp_path))).read_text())
    assert stored["training"] == {"lr": 0.2, "epochs": 20}
    assert (stored["arm"], stored["phase"], stored["number"], stored["seed"]) == ("av_digits/mlb", "search", 4, 7)


def test_a_sealed_result_comes_with_pictures(tracker: Make, client: Any, tmp_path: Path) -> None:
    t = tracker()
    train(t, 0, phase="confirm")
    rows = [{"epoch": e, "val/accuracy": 0.5 + e / 10, "val/accuracy/audio": 0.4} for e in (1, 2, 3)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.json").write_text(json.dumps({"accuracy": 0.75, "confusion": [[2, 0], [1, 1]]}))
    t.sealed("av_digits/mlb", 0, {"accuracy": 0.75}, tmp_path)
    t.interrupt()
    run = runs_of(client, study_name(t))["av_digits / mlb / confirm 000"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"trial.json", "curves.svg", "confusion.svg", "classes.csv"}
    table = Path(client.download_artifacts(run.info.run_id, "classes.csv", str(tmp_path))).read_text()
    assert table.splitlines()[2] == "yes,2,0.5,1.0,0.6666666666666666"


def test_a_thousand_parameters_of_every_script_are_stored_whole(tracker: Make, client: Any) -> None:
    t = tracker()
    many = {f"größe {i}/次.數-{i}": "ж" * 6000 if i == 7 else i for i in range(1000)}
    t.trial_started(trial(0, modulation=many))
    t.trial_finished("av_digits/mlb", "search", 0, "complete", ATTRS)
    t.interrupt()
    assert not t._folder.joinpath("mlflow.queue.rejected").exists()
    params = runs_of(client, study_name(t))["av_digits / mlb / 000"].data.params
    assert {name: params.get(f"modulation.{name}") for name in many} == {
        name: str(value) for name, value in many.items()
    }


def test_no_run_file_or_tag_holds_a_secret(
    tracker: Make, client: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real store whose address holds a password; what a server's token would be stands in the environment."""
    database = shutil.copy(root / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}?password=s3cret1")
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", f"s3cret2{name}")
    t = tracker()
    train(t, 0)
    t.finish([], tmp_path / "report", [])
    assert t._memory.store == f"sqlite:///{database}"
    written = [path for place in (t._folder, root / "mlartifacts") for path in place.rglob("*") if path.is_file()]
    assert written
    for path in [*written, Path(database)]:
        assert b"s3cret" not in path.read_bytes(), path


def test_an_extended_study_keeps_its_runs(tracker: Make, client: Any) -> None:
    t = tracker(config={"search": {"trials": 3}})
    train(t, 0)
    t.interrupt()
    t = tracker(config={"search": {"trials": 5}})
    train(t, 1)
    t.interrupt()
    assert not t._folder.joinpath("mlflow.queue.rejected").exists()
    assert len(runs_of(client, study_name(t))) == 5


def test_two_studies_of_one_name_in_one_store_do_not_mix(tracker: Make, client: Any, tmp_path: Path) -> None:
    t = tracker()
    train(t, 0)
    t.interrupt()
    other = Tracker(t._config, tmp_path / t._config.name, [], {})
    other._store = t._store
    train(other, 0)
    other.interrupt()
    found = client.search_runs([client.get_experiment_by_name(study_name(t)).experiment_id])
    ids = Counter(run.data.tags["balance_tune.study_id"] for run in found)
    assert sorted(ids.values()) == [3, 4]


def test_a_method_may_log_under_any_name(tracker: Make, client: Any) -> None:
    t = tracker()
    t.trial_started(trial(0))
    t.trial_reported(trial(0), result(1, **{"modulation/ä|ß//../x?/audio": 0.5, "modulation/nan/audio": float("nan")}))
    t.trial_finished("av_digits/mlb", "search", 0, "complete", ATTRS)
    t.interrupt()
    metrics = runs_of(client, study_name(t))["av_digits / mlb / 000"].data.metrics
    assert metrics["modulation/ä_ß/__/x_/audio"] == 0.5
    assert "modulation/nan/audio" in metrics


def test_what_the_tracker_is_told_wrongly_never_reaches_the_study(tracker: Make, caplog: Any, tmp_path: Path) -> None:
    t = tracker()
    t.trial_finished("av_digits/mlb", "search", 0, "no such state", {})
    t.trial_started({})
    t.sealed("av_digits/mlb", 0, {"accuracy": object()}, tmp_path)
    t.interrupt()
    assert caplog.text.count("the study goes on") == 2


def test_nothing_is_imported_or_written_before_there_is_something_to_tell(tracker: Make) -> None:
    t = tracker()
    t.reconcile([])
    t.interrupt()
    assert t._outbox is None
    assert sorted(path.name for path in t._folder.iterdir()) == ["mlflow.json", "study.yaml"]


@pytest.mark.parametrize("absent", ["http://127.0.0.1:9", "sqlite:////proc/no/such/mlflow.db"], ids=["server", "file"])
def test_an_absent_store_costs_a_line_and_nothing_else(
    tracker: Make, absent: str, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("balance_tune.studies.tracking.tracker.GRACE", 3.0)
    t = tracker(config={"mlflow": {"tracking_uri": absent}})
    for number in range(3):
        train(t, number)
    t.interrupt()
    assert caplog.text.count("does not take") == 1
    assert (t._folder / "mlflow.queue").exists()

    caplog.clear()
    t = tracker()  # the address was mended: what waited is sent
    t.reconcile([record(n) for n in range(3)])
    t.interrupt()
    assert not (t._folder / "mlflow.queue").exists()


def test_epochs_of_milliseconds_go_into_the_queue_at_once_and_none_is_left_behind(
    tracker: Make, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TOGETHER", 600.0)
    t = tracker()
    told: list[tuple[int, ...]] = []
    put = t._put
    monkeypatch.setattr(t, "_put", lambda update: (told.append(tuple(row.step for row in update.rows)), put(update)))
    for number in (0, 1, 2):
        t.trial_started(trial(number))
    told.clear()
    for epoch in (1, 2, 3):
        t.trial_reported(trial(0), result(epoch))
        t.trial_reported(trial(1), result(epoch))
    assert told == []
    monkeypatch.setattr(live, "TOGETHER", 0.0)
    t.trial_reported(trial(2), result(1, hostname="node-3"))
    t.trial_reported(trial(2), result(2, hostname="node-3"))
    assert told == [(1,), (2,)], "epochs that take their time are told one by one"
    t.trial_finished("av_digits/mlb", "search", 0, "complete", ATTRS)
    assert told[2:] == [(1, 2, 3)]
    t.trial_reported(trial(0), result(4))  # the last report may come after the end
    t.interrupt()
    runs = runs_of(client, study_name(t))
    found = {number: steps(client, runs[f"av_digits / mlb / 00{number}"]) for number in (0, 1, 2)}
    assert found == {0: [1, 2, 3, 4], 1: [1, 2, 3], 2: [1, 2]}
    assert tag(runs["av_digits / mlb / 002"], "host") == "node-3"


def test_what_a_killed_driver_had_heard_and_not_told_is_told_when_the_trial_goes_on(
    tracker: Make, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TOGETHER", 600.0)
    t = tracker()
    config = trial(0, folder=str(tmp_path / "trial"))
    t.trial_started(config)
    for epoch in (1, 2):
        t.trial_reported(config, result(epoch))
    assert t._outbox is not None
    assert t._outbox.stop(30)  # the driver was killed: the tracker says nothing more
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "history.jsonl").write_text("".join(json.dumps(result(e)) + "\n" for e in (1, 2)))

    t = tracker()
    t.trial_started({**config, "reported": 2})
    t.trial_reported(config, result(3))
    t.trial_finished("av_digits/mlb", "search", 0, "complete", ATTRS)
    t.interrupt()
    assert steps(client, runs_of(client, study_name(t))["av_digits / mlb / 000"]) == [1, 2, 3]


def test_epochs_that_are_told_together_are_rows_of_their_own(tracker: Make, client: Any) -> None:
    t = tracker()
    t.trial_started(trial(0))
    t.trial_reported(trial(0), result(3) | {"earlier": [result(1), result(2)]})
    failed = result(4) | {"state": "failed", "earlier": [result(4)]}
    t.trial_reported(trial(0), failed)
    t.trial_reported(trial(0), failed)  # Tune tells a last report twice
    t.interrupt()
    assert steps(client, runs_of(client, study_name(t))["av_digits / mlb / 000"]) == [1, 2, 3, 4]


def test_what_a_full_disk_refused_is_told_by_the_next_run(
    tracker: Make, client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    t = tracker()
    train(t, 0)
    assert t._outbox is not None
    append = t._outbox._spool.append

    def full(entry: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(t._outbox._spool, "append", full)
    train(t, 1)
    monkeypatch.setattr(t._outbox._spool, "append", append)
    t.finish([], tmp_path / "report", [record(0), record(1)])
    assert "av_digits / mlb / 001" not in runs_of(client, study_name(t))

    t = tracker()
    t.reconcile([record(0), record(1)])
    t.finish([], tmp_path / "report", [record(0), record(1)])
    assert tag(runs_of(client, study_name(t))["av_digits / mlb / 001"], "state") == "complete"


def test_hooks_tell_of_starts_and_epochs_and_survive_tunes_pickling(tracker: Make, client: Any) -> None:
    from types import SimpleNamespace

    hooks = tracker().callback
    t = hooks._tracker
    ray_trial = SimpleNamespace(config=trial(0), trial_id="x")
    hooks.on_trial_start(0, [], ray_trial)
    hooks.on_trial_result(0, [], ray_trial, result(1))
    copy = pickle.loads(pickle.dumps(hooks))
    copy.on_trial_start(0, [], ray_trial)
    copy.on_trial_result(0, [], ray_trial, result(2))
    t.interrupt()
    assert steps(client, runs_of(client, study_name(t))["av_digits / mlb / 000"]) == [1]
