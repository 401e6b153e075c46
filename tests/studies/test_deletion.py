"""A deleted study is gone from disk and from MLflow, and nothing else is."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from balance_tune.cli import main
from balance_tune.errors import UserError
from balance_tune.studies import deletion
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.deletion import delete_study
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import connect, store_of
from balance_tune.studies.tracking.memory import study_id as id_of
from balance_tune.studies.tracking.runs import TAG


@pytest.fixture(autouse=True)
def _no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def study(root: Path, name: str = "s") -> Path:
    config = read_config({"name": name, "datasets": ["av_digits"], "methods": ["joint"]})
    (root / name).mkdir()
    (root / name / "study.yaml").write_text(config.as_yaml())
    return root / name


def recorded(client: Any, root: Path, name: str, study_id: str) -> str:
    """Put a run with an artifact and a registered model of a study into MLflow; return the experiment."""
    found = client.get_experiment_by_name(name)
    home = (root / "mlartifacts" / study_id).as_uri()
    experiment: str = found.experiment_id if found else client.create_experiment(name, artifact_location=home)
    run = client.create_run(experiment, tags={f"{TAG}study_id": study_id})
    client.log_metric(run.info.run_id, "val/accuracy", 0.5)
    client.log_text(run.info.run_id, "hello", "note.txt")
    return experiment


@pytest.mark.full  # MLflow makes its tables, and its own tool clears them
def test_a_study_leaves_disk_and_mlflow_and_others_stay(tmp_path: Path) -> None:
    first, second = study(tmp_path), study(tmp_path, "other")
    ours, others = id_of(StudyFolder(first)), id_of(StudyFolder(second))
    client = connect(store_of(tmp_path))
    experiment = recorded(client, tmp_path, "s", ours)
    kept = recorded(client, tmp_path, "other", others)
    client.create_registered_model("s-av_digits")
    client.create_model_version("s-av_digits", "nowhere", tags={f"{TAG}study_id": ours})

    assert delete_study(StudyFolder(first)) == []

    assert not first.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db", "other"]
    assert [path.name for path in (tmp_path / "mlartifacts").iterdir()] == [others]
    assert client.get_experiment_by_name("s") is None
    assert not client.search_runs([experiment], run_view_type=3)
    assert not client.search_registered_models()
    assert len(client.search_runs([kept])) == 1


def test_a_study_that_mlflow_never_saw_is_deleted_too(tmp_path: Path) -> None:
    folder = study(tmp_path)
    assert delete_study(StudyFolder(folder)) == []
    assert not list(tmp_path.iterdir())


def test_a_running_study_is_not_deleted(tmp_path: Path) -> None:
    folder = study(tmp_path)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"pid": 1, "host": "h", "since": "now"}))
        file.flush()
        with pytest.raises(UserError, match="is being run by process 1 on h"):
            delete_study(StudyFolder(folder))
    assert (folder / "study.yaml").is_file()


def test_the_command_asks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study(tmp_path)
    argv = ["delete", "s", "--root", str(tmp_path)]
    assert main(argv) == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(argv) == 0
    assert folder.is_dir()
    assert main([*argv, "--yes"]) == 0
    assert not folder.exists()


def test_a_copy_of_a_study_is_deleted_without_the_originals_runs(tmp_path: Path) -> None:
    original = study(tmp_path)
    identity = id_of(StudyFolder(original))
    copied = tmp_path / "s-backup"
    shutil.copytree(original, copied)
    kept = tmp_path / "mlartifacts" / identity / "model"
    kept.mkdir(parents=True)
    (remark,) = delete_study(StudyFolder(copied))
    assert "those of `s`, of which s-backup was a copy" in remark
    assert not copied.exists()
    assert kept.is_dir()
    assert original.is_dir()


@pytest.mark.full  # MLflow makes its tables, and its own tool clears them
def test_deletion_in_a_copied_root_leaves_the_artifacts_of_the_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    identity = id_of(StudyFolder(study(original)))
    recorded(connect(store_of(original)), original, "s", identity)
    shutil.copytree(original, copy)
    assert delete_study(StudyFolder(copy / "s")) == []
    assert [path.name for path in (original / "mlartifacts" / identity).rglob("*.txt")] == ["note.txt"]
    assert not (copy / "mlartifacts" / identity).exists()


def test_nothing_is_deleted_in_a_copied_root_while_another_of_its_studies_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path)
    id_of(StudyFolder(folder))
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setattr(deletion, "follow_root", lambda *args, **more: 0)
    monkeypatch.setattr(deletion, "recorded_elsewhere", lambda *args: "file:///original/mlartifacts")
    with pytest.raises(
        UserError, match="records them at file:///original/mlartifacts; delete again when no other"
    ) as e:
        delete_study(StudyFolder(folder))
    assert "\n" not in str(e.value)
    assert (folder / "study.yaml").is_file()


@pytest.mark.parametrize(
    "content", ['{"study_id": "../precious"}', '{"study_id": ""}', '{"study_id": 3}', "{", "[]", "{}"]
)
def test_a_damaged_memory_of_mlflow_is_one_line_and_deletes_nothing(tmp_path: Path, content: str) -> None:
    folder, precious = study(tmp_path), tmp_path / "precious"
    precious.mkdir()
    (folder / "mlflow.json").write_text(content)
    with pytest.raises(UserError, match=r"mlflow.json must be JSON") as caught:
        delete_study(StudyFolder(folder))
    assert "\n" not in str(caught.value)
    assert folder.is_dir()
    assert precious.is_dir()
