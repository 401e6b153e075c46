"""The end of a study: the leaderboard in its run, a checkpoint an arm, and a registered model that others can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.store import open_store
from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.evaluation.stored_model import default_store
from balance_tune.studies.protocol.selection import best_trial
from balance_tune.studies.results import tables
from balance_tune.studies.tracking import tracker
from balance_tune.studies.tracking.backend import connect, store_of
from balance_tune.studies.tracking.client import Client
from balance_tune.studies.tracking.memory import CACHE
from balance_tune.studies.tracking.sync import sync
from balance_tune.studies.tracking.tracker import Tracker
from balance_tune.training.checkpoint import load_best
from balance_tune.training.evaluation import evaluate, predict
from tests.datasets.tiny import Tiny
from tests.studies.tracking.trained import RATES, Trained, train_study

MODEL = "ended-tiny"


def tracker_of(study: Trained) -> Tracker:
    return Tracker(read_config(study.config), study.folder)


@pytest.fixture(scope="module")
def study(root: Path) -> Trained:
    """A study that was trained and then written to MLflow from its folder alone, by a process as every study's is."""
    trained = train_study(root, "ended")
    tables.write_files(trained.folder, trained.rows)
    (trained.folder / "report" / "index.html").write_text("<h1>report</h1>")
    with pytest.MonkeyPatch.context() as patch:  # as if the driver's program had imported a data set of its own
        patch.setattr(tracker, "datasets", lambda: SimpleNamespace(classes=lambda: {"tiny": Tiny}))
        tracker_of(trained).finish(trained.records)
    return trained


@pytest.fixture(scope="module")
def runs(study: Trained, client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("ended")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def served(study: Trained, root: Path) -> Any:
    """The champion, loaded as a user loads it."""
    import mlflow

    with default_store(store_of(root)):
        return mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")


def chosen(study: Trained) -> Path:
    row = next(row for row in study.rows if row.chosen)
    best = best_trial(study.records, row.arm, row.params, row.objective)
    assert best is not None
    return study.folder / best.attrs["folder"]


def raw(study: Trained, part: str) -> tuple[pd.DataFrame, Any]:
    """Return a part's samples as the source has them, and the part as training saw it."""
    opened = open_store(study.store, parts=(part,)).parts[part]
    inputs = Tiny().read().inputs
    rows = opened.rows.numpy()
    return pd.DataFrame({m: [x[row].astype(float).tolist() for row in rows] for m, x in inputs.items()}), opened


def test_the_study_run_holds_report_and_leaderboard(runs: dict[str, Any], study: Trained, client: Any) -> None:
    run = runs["ended"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"study.yaml", "report.html", "leaderboard.json", "leaderboard.csv", "leaderboard.md"}
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("# Leaderboard")
    assert f"`tiny`: split {study.manifest.split_hash}" in note
    assert "balance-tune run study.yaml" in note
    assert client.get_experiment_by_name("ended").tags["mlflow.note.content"] == note
    assert run.info.status == "FINISHED"


def test_an_arms_run_shows_the_curves_of_all_its_trials(runs: dict[str, Any], client: Any, tmp_path: Path) -> None:
    run = runs["joint / tiny"]
    picture = Path(client.download_artifacts(run.info.run_id, "curves.svg", str(tmp_path))).read_text()
    assert picture.count("<path") >= 4
    assert "confirm 2: complete" in picture


def test_an_arms_run_holds_its_row_of_the_leaderboard(runs: dict[str, Any], study: Trained) -> None:
    for row in study.rows:
        run = runs[" / ".join(reversed(row["arm"].split("/")))]
        assert run.data.metrics["leaderboard/val_confirm"] == row["val_confirm"]
        assert run.data.metrics["leaderboard/test_mean"] == row["test_mean"]
        assert run.info.status == "FINISHED"


def test_the_checkpoint_of_an_arm_reloads_and_gives_the_recorded_validation_accuracy(
    runs: dict[str, Any], study: Trained, client: Any, tmp_path: Path
) -> None:
    part = open_store(study.store, parts=("val",)).parts["val"]
    for method in RATES:
        run = runs[f"{method} / tiny"]
        (tmp_path / method).mkdir()
        folder = Path(client.download_artifacts(run.info.run_id, "checkpoint", str(tmp_path / method)))
        recorded = json.loads((folder / "best.json").read_text())["metrics"]
        again = evaluate(load_best(folder), part)
        assert again["val/accuracy"] == recorded["val/accuracy"]
        trial = runs[run.data.tags["balance_tune.best"]]
        assert trial.data.metrics["trial/best/val/accuracy"] == recorded["val/accuracy"]


def test_sealed_results_that_only_the_folder_knows_are_in(runs: dict[str, Any]) -> None:
    assert runs["002 confirm / joint / tiny"].data.metrics["test/accuracy"] == pytest.approx(0.7)
    assert not [name for name in runs["000 select / joint / tiny"].data.metrics if name.startswith("test/")]


def test_champion_and_challenger_are_ordered_by_confirmation_validation(study: Trained, client: Any) -> None:
    values = {
        alias: float(client.get_model_version_by_alias(MODEL, alias).tags["balance_tune.val"])
        for alias in ("champion", "challenger")
    }
    by_row = sorted((row["val_confirm"] for row in study.rows), reverse=True)
    assert list(values.values()) == by_row
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.tags["balance_tune.split_hash"] == study.manifest.split_hash
    assert "means nothing" in version.description


def test_the_served_champion_gives_the_probabilities_of_the_trial(served: Any, study: Trained) -> None:
    table, part = raw(study, "val")
    answer = served.predict(table)
    logits, _ = predict(load_best(chosen(study)), part)
    np.testing.assert_allclose(np.stack(answer["probabilities"]), logits.softmax(1).numpy(), atol=1e-6)
    assert list(answer["label"]) == [study.manifest.classes[i] for i in logits.argmax(1)]


@pytest.mark.parametrize("modality", ["a", "b"])
def test_with_one_modality_alone_it_answers_as_that_modality_does(served: Any, study: Trained, modality: str) -> None:
    table, part = raw(study, "val")
    model = load_best(chosen(study))
    _, alone = predict(model, part)
    expected = alone[model.modalities.index(modality)].softmax(1).numpy()
    np.testing.assert_allclose(np.stack(served.predict(table[[modality]])["probabilities"]), expected, atol=1e-6)


def test_a_cell_may_be_missing_where_others_of_its_column_are_not(served: Any, study: Trained) -> None:
    table, _ = raw(study, "val")
    whole, alone = served.predict(table), served.predict(table[["b"]])
    table.at[1, "a"] = None
    mixed = served.predict(table)
    assert mixed["probabilities"][0] == pytest.approx(whole["probabilities"][0], abs=1e-6)
    assert mixed["probabilities"][1] == pytest.approx(alone["probabilities"][1], abs=1e-6)


def test_a_wrong_column_is_an_error_that_names_the_columns(served: Any, study: Trained) -> None:
    table, _ = raw(study, "val")
    with pytest.raises(UserError, match="an input must be one of a, b, but got `sound`; rename"):
        served.predict(table.rename(columns={"a": "sound"}))
    with pytest.raises(UserError, match="an input must have a column of a, b, but has none"):
        served.predict(table[[]])


def test_the_model_says_what_it_takes_and_pins_what_it_needs(served: Any) -> None:
    signature = served.metadata.signature
    assert served.metadata.metadata["inputs"] == {
        "a": "numbers of shape (3,); may be missing",
        "b": "numbers of shape (2, 4); may be missing",
    }
    assert signature.inputs is None  # MLflow would drop a column of another name, and the model would not know
    assert [c.name for c in signature.outputs] == ["label", "probabilities"]


def test_it_loads_and_answers_where_there_is_no_ray_and_no_optuna(study: Trained, client: Any, root: Path) -> None:
    version = client.get_model_version_by_alias(MODEL, "champion")
    folder = Path(client.get_model_version_download_uri(MODEL, version.version).removeprefix("file://"))
    requirements = (folder / "requirements.txt").read_text().split()
    assert f"torch=={torch.__version__.split('+')[0]}" in requirements
    assert all("==" in line for line in requirements)
    assert not list(folder.rglob("*.parquet"))
    program = f"""
import sys
for name in ("ray", "optuna"):
    sys.modules[name] = None
import mlflow, pandas
model = mlflow.pyfunc.load_model({str(folder)!r})
answer = model.predict(pandas.DataFrame({{"a": [[1.0, 2.0, 3.0]]}}))
assert answer["label"][0] in ("no", "yes")
import balance_tune
print(balance_tune.__file__)
"""
    environment = {"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(root)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], env=environment, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(folder))  # the code that came with the model


def test_finishing_again_starts_no_process(study: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(tracker, "Worker", never)
    tracker_of(study).finish(study.records)


def test_a_lost_cache_makes_no_second_version_and_no_second_run(study: Trained, client: Any) -> None:
    experiment = client.get_experiment_by_name("ended").experiment_id
    before = len(client.search_model_versions(f"name='{MODEL}'")), len(client.search_runs([experiment]))
    (study.folder / CACHE).unlink()
    assert sync(study.folder, store_of(study.folder.parent), "complete")
    assert (study.folder / CACHE).is_file()
    assert (len(client.search_model_versions(f"name='{MODEL}'")), len(client.search_runs([experiment]))) == before


def test_another_store_is_filled_with_runs_and_models(study: Trained, tmp_path: Path) -> None:
    other = store_of(tmp_path)
    assert sync(study.folder, other, "complete")
    client = connect(other)
    runs = client.search_runs([client.get_experiment_by_name("ended").experiment_id])
    assert len(runs) == 1 + len(RATES) + len(study.records)
    assert len(client.search_model_versions(f"name='{MODEL}'")) == 2


def test_a_data_set_that_only_the_drivers_program_has_imported_is_imported_by_the_process_too(
    study: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes: dict[str, Any] = {"tiny": Tiny, "av_digits": AvDigits}
    monkeypatch.setattr(tracker, "datasets", lambda: SimpleNamespace(classes=lambda: classes))
    assert tracker.modules_of(["tiny", "av_digits", "unknown"]) == ["tests.datasets.tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "write", lambda self, content: None)
        assert not sync(study.folder, store_of(tmp_path), "complete", imports=["no_such_module"])
