"""What MLflow holds of a study after a sync, in a store that is real: all of the folder, once, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking import client as client_module
from balance_tune.studies.tracking.backend import Store, connect, store_of
from balance_tune.studies.tracking.client import Client, is_refusal
from balance_tune.studies.tracking.memory import CACHE, IDENTITY, Cache
from balance_tune.studies.tracking.sync import ATTEMPTS, Sync, sync
from tests.studies.bucket import Bucket
from tests.studies.tracking.written import MANIFEST, WrittenStudy, points, runs_of, steps, tag

Write = Callable[..., WrittenStudy]
TRIAL = "000 / mlb / av_digits"
CONFIRMED = "000 confirm / mlb / av_digits"


class Killed(BaseException):
    """The end of a process, which no `except Exception` sees."""


def die_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """Have the process die in its `call`-th call of a method of MLflow's client, before anything is sent."""
    from mlflow import MlflowClient

    honest, left = getattr(MlflowClient, method), [call]

    def dying(client: Any, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return honest(client, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, method, dying)


def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is written to MLflow from now on."""
    from mlflow import MlflowClient

    seen: Counter[str] = Counter()
    for method in ("create_run", "log_batch", "set_terminated", "update_run", "log_inputs"):
        honest = getattr(MlflowClient, method)

        def counted(client: Any, *args: Any, _name: str = method, _honest: Any = honest, **kwargs: Any) -> Any:
            seen[_name] += 1
            return _honest(client, *args, **kwargs)

        monkeypatch.setattr(MlflowClient, method, counted)
    return seen


def a_study(written: Write) -> WrittenStudy:
    """A study with a trial of each state, one that runs, and a confirmation that was sealed."""
    study = written()
    study.begin(0).train(3).end()
    study.begin(1).train(2).end("pruned")
    study.begin(2).train(1).end("failed", reason="Diverged: val/loss is nan in epoch 2")
    study.begin(3).train(2)
    study.begin(0, "confirm").train(3).end().seal(accuracy=0.9, n=10)
    return study


# what is in a run -----------------------------------------------------------------------------------------------------
def test_trials_hang_below_their_arm_and_arms_below_the_study(written: Write, store: Store, client: Any) -> None:
    study = a_study(written)
    assert sync(study.folder, store)
    runs, name = runs_of(client, study.folder.name), study.folder.name
    trials = [f"00{i} / mlb / av_digits" for i in range(4)]
    assert set(runs) == {name, "joint / av_digits", "mlb / av_digits", *trials, CONFIRMED}
    parent = {n: run.data.tags.get("mlflow.parentRunId") for n, run in runs.items()}
    assert parent[name] is None
    assert parent["mlb / av_digits"] == runs[name].info.run_id
    assert {parent[n] for n in [*trials, CONFIRMED]} == {runs["mlb / av_digits"].info.run_id}
    begun = {run_name: run.info.start_time for run_name, run in runs.items()}
    assert begun[name] < begun["joint / av_digits"] < begun["mlb / av_digits"]  # their order in MLflow


def test_an_arm_with_a_name_of_its_own_says_what_it_is(written: Write, store: Store, client: Any) -> None:
    study = written(methods=["joint", {"name": "mlb", "method": "ogm", "set": {"end": 0.6}}])
    study.begin(0).train(1).end()
    sync(study.folder, store)
    runs = runs_of(client, study.folder.name)
    assert tag(runs["joint / av_digits"], "definition") is None
    for name in ("mlb / av_digits", TRIAL):
        assert tag(runs[name], "definition") == "ogm with end = 0.6"


def test_a_trials_run_tells_how_it_ended_and_with_what_it_was_trained(
    written: Write, store: Store, client: Any
) -> None:
    study = a_study(written)
    sync(study.folder, store)
    runs = runs_of(client, study.folder.name)
    trials = [runs[f"00{i} / mlb / av_digits"] for i in range(4)]
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED", "FAILED", "RUNNING"]
    assert [tag(run, "state") for run in trials] == ["complete", "pruned", "failed", "running"]
    assert tag(trials[2], "reason") == "Diverged: val/loss is nan in epoch 2"
    assert trials[1].data.params["training.lr"] == "1.1"
    assert trials[0].data.params["model.fusion"] == "concat"
    expected = {
        "dataset": "av_digits", "method": "mlb", "seed": "7", "split_hash": "5p1it", "device": "cpu",
        "data_hash": MANIFEST.data_hash, "phase": "search", "number": "1", "kind": "trial",
    }  # fmt: skip
    assert {name: tag(trials[1], name) for name in expected} == expected
    assert tag(trials[1], "code_version")


def test_every_epoch_is_there_once_with_modalities_and_coefficients(written: Write, store: Store, client: Any) -> None:
    study = written()
    study.begin(0).train(20).end()
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[TRIAL]
    for metric in ("val/accuracy", "val/accuracy/audio", "modulation/k/audio", "train/loss", "time/epoch_s", "val/gap"):
        assert steps(client, run, metric) == list(range(1, 21))
    assert set(run.data.metrics) == {
        "val/accuracy", "val/accuracy/audio", "val/gap", "train/loss", "modulation/k/audio",
        "time/epoch_s", "trial/best/val/accuracy", "trial/best_epoch", "trial/device_seconds",
    }  # fmt: skip
    assert run.data.metrics["trial/best_epoch"] == 20


def test_host_and_device_are_those_that_the_storage_names(written: Write, store: Store, client: Any) -> None:
    study = written()
    trial = study.begin(0, attrs={"device": "cuda"})
    trial.set(host="node-3")
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[TRIAL]
    assert (tag(run, "host"), tag(run, "device")) == ("node-3", "cuda")


def test_a_trials_run_holds_what_it_takes_to_train_it_again_and_no_path_of_this_machine(
    written: Write, store: Store, client: Any, tmp_path: Path
) -> None:
    study = written()
    study.begin(0, "confirm", folder="/here/trials/x", store="/here/data", scratch="/here/.tune", gpus=0)
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[CONFIRMED]
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, "trial.json", str(tmp_path))).read_text())
    assert (stored["training"], stored["gpus"], stored["seed"]) == ({"lr": 0.1, "epochs": 20}, 0, 7)
    assert "/here" not in json.dumps(stored)
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["av_digits"]


def test_the_study_run_holds_its_settings_and_where_it_ran(written: Write, store: Store, client: Any) -> None:
    study = written(search={"trials": 3, "space": {"mlb": {"alpha": {"low": 0.1, "high": 0.2}}}})
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[study.folder.name]
    assert run.data.params["search.trials"] == "3"
    assert run.data.params["search.space.mlb.alpha.low"] == "0.1"
    assert all(tag(run, name) for name in ("host", "python", "torch", "mlflow", "objective"))
    assert tag(run, "dirty") in ("true", "false")
    assert run.data.tags["mlflow.source.name"].startswith("balance-tune ")
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("av_digits", MANIFEST.data_hash[:36])
    assert json.loads(data.dataset.profile)["rows"] == {"train": 5}
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["study.yaml"]


def test_test_metrics_come_from_the_sealed_evaluation_alone(written: Write, store: Store, client: Any) -> None:
    study = written()
    study.begin(0).train(3).end().seal(accuracy=0.1)  # no search trial is evaluated on test rows
    study.begin(0, "confirm").train(3, **{"test/accuracy": 0.1}).end()
    sync(study.folder, store)
    assert not [m for run in runs_of(client, study.folder.name).values() for m in run.data.metrics if "test" in m]
    (study.folder / "trials/av_digits/mlb/confirm-0000/test.json").write_text(
        '{"accuracy": 0.97, "accuracy/audio": 0.8, "loss": 0.2, "correct": "abc", "n": 3}'
    )
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[CONFIRMED]
    test = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert test == {"test/accuracy": 0.97, "test/accuracy/audio": 0.8, "test/loss": 0.2}
    assert steps(client, run) == [1, 2, 3]


def test_a_sealed_result_comes_with_pictures(written: Write, store: Store, client: Any, tmp_path: Path) -> None:
    study = written()
    study.begin(0, "confirm").train(3).end().seal(accuracy=0.75, confusion=[[2, 0], [1, 1]])
    sync(study.folder, store)
    run = runs_of(client, study.folder.name)[CONFIRMED]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"trial.json", "curves.svg", "confusion.svg", "classes.csv"}
    table = Path(client.download_artifacts(run.info.run_id, "classes.csv", str(tmp_path))).read_text()
    assert table.splitlines()[2] == "yes,2,0.5,1.0,0.6666666666666666"


def test_a_thousand_parameters_of_every_script_are_stored_whole(written: Write, store: Store, client: Any) -> None:
    study = written()
    many = {f"größe {i}/次.數-{i}": "ж" * 6000 if i == 7 else i for i in range(1000)}
    study.begin(0, modulation=many).train(1).end()
    assert sync(study.folder, store)
    params = runs_of(client, study.folder.name)[TRIAL].data.params
    assert {name: params.get(f"modulation.{name}") for name in many} == {n: str(value) for n, value in many.items()}


def test_a_method_may_log_under_any_name(written: Write, store: Store, client: Any) -> None:
    study = written()
    study.begin(0).train(1, **{"modulation/ä|ß//../x?/audio": 0.5, "modulation/nan/audio": float("nan")}).end()
    assert sync(study.folder, store)
    metrics = runs_of(client, study.folder.name)[TRIAL].data.metrics
    assert metrics["modulation/ä_ß/__/x_/audio"] == 0.5
    assert "modulation/nan/audio" in metrics


def test_no_run_file_or_tag_holds_a_secret(
    written: Write, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real store whose address holds a password; what a server's token would be stands in the environment."""
    database = shutil.copy(root / "mlflow.db", tmp_path / "mlflow.db")
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", f"s3cret2{name}")
    study = a_study(written)
    sync(study.folder, store_of(root, f"sqlite:///{database}?password=s3cret1"), "complete")
    assert json.loads((study.folder / CACHE).read_text())["store"] == f"sqlite:///{database}"
    files = [path for place in (study.folder, root / "mlartifacts") for path in place.rglob("*") if path.is_file()]
    assert files
    for path in [*files, Path(database)]:
        assert b"s3cret" not in path.read_bytes(), path


# live -----------------------------------------------------------------------------------------------------------------
def test_a_running_trial_shows_the_epochs_that_the_driver_has_heard_of_and_gains_the_later_ones(
    written: Write, store: Store, client: Any
) -> None:
    study = written()
    live = Sync(study.folder, store)
    live.run("running")
    trial = study.begin(0).train(3, reported=2)
    live.run("running")
    run = runs_of(client, study.folder.name)[TRIAL]
    assert (run.info.status, steps(client, run)) == ("RUNNING", [1, 2])
    trial.report(3)
    trial.train(2)
    live.run("running")
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2, 3, 4, 5]
    trial.end("pruned", epochs=5)
    live.run("running")
    run = runs_of(client, study.folder.name)[TRIAL]
    assert (run.info.status, steps(client, run)) == ("KILLED", [1, 2, 3, 4, 5])


def test_once_a_confirmation_has_ended_the_libraries_of_the_models_are_imported_before_the_end(
    written: Write, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports: list[str] = []
    monkeypatch.setattr("balance_tune.studies.tracking.champions.import_module", imports.append)
    study = written()
    study.begin(0).train(2).end()
    live = Sync(study.folder, store)
    live.run("running")
    assert imports == [], "of a search, which may be long, they would only take memory"
    study.begin(0, "confirm").train(2).end()
    live.run("running")
    assert "balance_tune.studies.tracking.models" in imports


def test_epochs_behind_the_one_at_which_a_trial_was_stopped_are_no_part_of_it(
    written: Write, store: Store, client: Any
) -> None:
    study = written()
    study.begin(0).train(5, reported=3).end("pruned", epochs=3)
    sync(study.folder, store)
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2, 3]


def test_where_nothing_is_new_nothing_is_asked_and_nothing_is_written(
    written: Write, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(written)
    live = Sync(study.folder, store)
    live.run("running")
    seen, reads = calls(monkeypatch), Counter[str]()
    monkeypatch.setattr("balance_tune.studies.tracking.sync.read_records", lambda s: reads.update(["journal"]))
    live.run("running")
    assert not seen
    assert not reads


def test_a_trial_whose_files_lag_behind_its_state_is_written_when_they_are_there(
    written: Write, store: Store, client: Any
) -> None:
    """As on an object store, where a stopped trial puts its history after the driver has stopped it."""
    study = written()
    live = Sync(study.folder, store)
    trial = study.begin(0).train(3)
    history = trial.folder / "history.jsonl"
    whole = history.read_text()
    history.write_text(whole.splitlines(keepends=True)[0])
    trial.end("pruned")
    live.run("running")
    assert TRIAL not in runs_of(client, study.folder.name)
    history.unlink()
    history.write_text(whole)
    live.run("running")
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2, 3]


def test_of_a_study_in_an_object_store_the_epochs_come_from_there(
    written: Write, store: Store, client: Any, bucket: Bucket
) -> None:
    study = written()
    live = Sync(StudyFolder.at(study.folder, (bucket.uri, "s")), store)
    trial = study.begin(0).train(2)
    history = trial.folder / "history.jsonl"
    bucket.write("s/trials/av_digits/mlb/search-0000/history.jsonl", history.read_bytes())
    history.unlink()
    live.run("running")
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2]


def test_a_trial_that_went_back_to_an_earlier_state_gains_no_epoch_twice(
    written: Write, store: Store, client: Any
) -> None:
    study = written()
    live = Sync(study.folder, store)
    trial = study.begin(0).train(4)
    live.run("running")
    lines = (trial.folder / "history.jsonl").read_text().splitlines(keepends=True)
    again = trial.folder / "again"
    again.write_text("".join(lines[:2]))
    again.replace(trial.folder / "history.jsonl")
    trial.epochs = 2
    trial.train(4, **{"time/epoch_s": 0.123456}).end()
    live.run("running")
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2, 3, 4, 5, 6]


def test_a_damaged_history_costs_what_follows_the_damage(
    written: Write, store: Store, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    study = written()
    trial = study.begin(0).train(2)
    with (trial.folder / "history.jsonl").open("a") as history:
        history.write("\x00 nonsense\n")
    trial.train(1).end()
    assert sync(study.folder, store, "complete")
    assert steps(client, runs_of(client, study.folder.name)[TRIAL]) == [1, 2]
    assert caplog.text.count("gets only 2 epochs") == 1


# again ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["running", "complete"])
def test_a_sync_that_is_repeated_by_another_process_writes_nothing_twice(
    written: Write, store: Store, client: Any, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(written)
    sync(study.folder, store, state)
    before = points(client, study.folder.name)
    (study.folder / CACHE).unlink(missing_ok=True)  # it may be lost at any time
    seen = calls(monkeypatch)
    sync(study.folder, store, state)
    assert points(client, study.folder.name) == before
    assert not seen


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("create_run", 2),
        ("create_run", 5),
        ("log_batch", 2),
        ("log_batch", 6),
        ("set_terminated", 1),
        ("log_inputs", 3),
    ],
)
def test_a_sync_that_is_killed_anywhere_is_completed_by_the_next(
    written: Write, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch, method: str, call: int, tmp_path: Path
) -> None:
    study = a_study(written)
    with monkeypatch.context() as patch:
        die_at(patch, method, call)
        with pytest.raises(Killed):
            sync(study.folder, store)
    assert sync(study.folder, store, "complete")
    undisturbed = tmp_path / study.folder.name
    shutil.copytree(study.folder, undisturbed, ignore=shutil.ignore_patterns(IDENTITY, CACHE))
    elsewhere = store_of(tmp_path)
    sync(undisturbed, elsewhere, "complete")
    assert points(client, study.folder.name) == points(connect(elsewhere), study.folder.name)
    states = {name: tag(run, "state") for name, run in runs_of(client, study.folder.name).items()}
    assert states[CONFIRMED] == states[TRIAL] == states[study.folder.name] == "complete"


def test_a_run_whose_creation_was_not_answered_is_not_created_again(
    written: Write, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    study = a_study(written)
    honest, left = MlflowClient.create_run, [4]

    def unanswered(client: Any, *args: Any, **kwargs: Any) -> Any:
        made = honest(client, *args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise ConnectionError("no answer")
        return made

    monkeypatch.setattr(MlflowClient, "create_run", unanswered)
    live = Sync(study.folder, store)
    with pytest.raises(ConnectionError):
        live.run("running")
    live.run("running")
    assert len(runs_of(client, study.folder.name)) == 8


def test_a_resumed_study_adds_to_its_runs_and_makes_none_twice(written: Write, store: Store, client: Any) -> None:
    study = written()
    study.begin(0).train(3).end()
    trial = study.begin(1).train(2)
    sync(study.folder, store, "interrupted")
    runs = runs_of(client, study.folder.name)
    for name in ("001 / mlb / av_digits", "mlb / av_digits", study.folder.name):
        assert (tag(runs[name], "state"), runs[name].info.status) == ("interrupted", "KILLED")

    second = Sync(study.folder, store)
    second.run("running")
    runs = runs_of(client, study.folder.name)
    for name in ("001 / mlb / av_digits", "mlb / av_digits", study.folder.name):
        assert (tag(runs[name], "state"), runs[name].info.status) == ("running", "RUNNING")
    trial.train(1).end()
    second.run("running")
    runs = runs_of(client, study.folder.name)
    assert steps(client, runs["001 / mlb / av_digits"]) == [1, 2, 3]
    assert steps(client, runs[TRIAL]) == [1, 2, 3]
    assert (tag(runs["001 / mlb / av_digits"], "state"), runs[TRIAL].info.status) == ("complete", "FINISHED")


def test_an_extended_study_keeps_its_runs_and_their_parameters(written: Write, store: Store, client: Any) -> None:
    study = written(search={"trials": 3})
    study.begin(0).train(3).end()
    assert sync(study.folder, store, "complete")
    study = written(search={"trials": 5})
    study.begin(1).train(3).end()
    assert sync(study.folder, store, "running")
    assert sync(study.folder, store, "complete")
    runs = runs_of(client, study.folder.name)
    assert len(runs) == 5
    assert runs[study.folder.name].data.params["search.trials"] == "3"


def test_an_empty_store_beside_a_finished_study_is_filled(
    written: Write, store: Store, client: Any, tmp_path: Path
) -> None:
    study = a_study(written)
    sync(study.folder, store, "complete")
    other = store_of(tmp_path)
    assert sync(study.folder, other, "complete")
    assert points(connect(other), study.folder.name) == points(client, study.folder.name)


def test_a_run_that_somebody_deleted_is_written_anew(written: Write, store: Store, client: Any) -> None:
    study = a_study(written)
    live = Sync(study.folder, store)
    trial = study.begin(4).train(2)
    live.run("running")
    name = "004 / mlb / av_digits"
    client.delete_run(runs_of(client, study.folder.name)[name].info.run_id)
    trial.train(1)
    assert live.run("running")
    runs = runs_of(client, study.folder.name)
    assert len(runs) == 9
    assert steps(client, runs[name]) == [1, 2, 3]


def test_a_study_of_version_0_1_is_written_whole(written: Write, store: Store, client: Any, tmp_path: Path) -> None:
    """It has a queue for MLflow, and neither `trial.json` nor a device."""
    study = written()
    trial = study.begin(0, attrs={"device": None}).train(3).end()
    (trial.folder / trial_file.FILE).unlink()
    for name in ("mlflow.queue", "mlflow.queue.sent"):
        (study.folder / name).write_text("{}\n")
    (study.folder / IDENTITY).write_text(json.dumps({"study_id": "0" * 32, "store": store.shown, "records": "1"}))
    assert sync(study.folder, store, "complete")
    run = runs_of(client, study.folder.name)[TRIAL]
    assert (steps(client, run), run.data.params, tag(run, "device")) == ([1, 2, 3], {"training.lr": "0.1"}, None)
    assert tag(run, "study_id") == "0" * 32
    assert not list(study.folder.glob("mlflow.queue*"))


def test_two_studies_of_one_name_in_one_store_do_not_mix(
    written: Write, store: Store, client: Any, tmp_path: Path
) -> None:
    first = written()
    first.begin(0).train(1).end()
    sync(first.folder, store, "complete")
    other = WrittenStudy(tmp_path, first.folder.name)
    other.begin(0).train(2).end()
    other.begin(1).train(2).end()
    sync(other.folder, store, "complete")
    runs = client.search_runs([client.get_experiment_by_name(first.folder.name).experiment_id])
    ids = Counter(run.data.tags["balance_tune.study_id"] for run in runs)
    assert sorted(ids.values()) == [4, 5]


# what goes wrong ------------------------------------------------------------------------------------------------------
def test_what_mlflow_refuses_is_left_out_with_one_line_and_the_rest_is_written(
    written: Write, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = a_study(written)
    honest = Client.write

    def picky(self: Client, content: Any) -> None:
        if content.key.number == 1:
            raise ValueError("no such value at postgresql://me:s3cret@db/mlflow")
        honest(self, content)

    monkeypatch.setattr(Client, "write", picky)
    live = Sync(study.folder, store)
    assert not live.run("running")
    assert not live.run("complete")
    assert caplog.text.count("does not get `001 / mlb / av_digits`") == 1
    assert "s3cret" not in caplog.text
    assert len(runs_of(client, study.folder.name)) == 7
    assert not Cache.of(study.folder, store.shown).complete
    monkeypatch.setattr(Client, "write", honest)
    assert sync(study.folder, store, "complete"), "the next process tries again"
    assert len(runs_of(client, study.folder.name)) == 8


def test_what_fails_again_and_again_while_mlflow_answers_is_left_out_too(
    written: Write, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(written)
    honest = Client.write

    def broken(self: Client, content: Any) -> None:
        if content.key.number == 1:
            raise ConnectionError("500")
        honest(self, content)

    monkeypatch.setattr(Client, "write", broken)
    live = Sync(study.folder, store)
    for _ in range(ATTEMPTS - 1):
        with pytest.raises(ConnectionError):
            live.run("running")
    assert not live.run("running")
    assert len(runs_of(client, study.folder.name)) == 7


def test_an_outage_counts_as_no_attempt(written: Write, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = a_study(written)
    live = Sync(study.folder, store)
    with monkeypatch.context() as patch:

        def away(store: Store) -> Any:
            raise ConnectionError("away")

        patch.setattr(client_module, "connect", away)
        for _ in range(3 * ATTEMPTS):
            with pytest.raises(ConnectionError):
                live.run("running")
    assert live.run("running")


def test_a_full_disk_costs_the_cache_and_nothing_else(
    written: Write, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = a_study(written)

    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        sync(study.folder, store)  # the id of the study is on disk before anything is sent
        patch.setattr("balance_tune.studies.storage.durable.write", full)
        assert sync(study.folder, store, "complete")
    assert caplog.text.count("No space left on device") == 1
    assert tag(runs_of(client, study.folder.name)[study.folder.name], "state") == "complete"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"store": 3}', "\x00"])
def test_a_damaged_cache_is_no_cache(tmp_path: Path, store: Store, content: str) -> None:
    (tmp_path / CACHE).write_text(content)
    cache = Cache.of(tmp_path, store.shown)
    assert (cache.store, cache.complete, cache.uploaded) == (store.shown, "", {})


def test_a_damaged_id_is_one_line(written: Write, store: Store) -> None:
    study = written()
    (study.folder / IDENTITY).write_text("{")
    with pytest.raises(UserError, match=r"mlflow\.json must be JSON"):
        sync(study.folder, store)


def test_a_bucket_that_does_not_answer_is_asked_again_and_a_fault_of_ours_is_not() -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    assert not is_refusal(EndpointConnectionError(endpoint_url="http://127.0.0.1:1"))
    assert not is_refusal(ClientError({"Error": {"Code": "ExpiredToken"}}, "PutObject"))
    assert is_refusal(KeyError("run"))


def test_a_time_of_an_epoch_is_the_start_of_the_trial_and_what_it_had_trained(
    written: Write, store: Store, client: Any
) -> None:
    study = written()
    study.begin(0).train(3).end()
    sync(study.folder, store)
    (record,) = study.records
    run = runs_of(client, study.folder.name)[TRIAL]
    times = [m.timestamp for m in client.get_metric_history(run.info.run_id, "val/accuracy")]
    assert record.started is not None
    assert [time - int(1000 * record.started) for time in times] == [100, 200, 300]
    assert run.info.start_time == int(1000 * record.started)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
