"""The winner of a study, taken home as files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from balance_tune.cli import main
from balance_tune.datasets.multiple_features import MultipleFeatures
from balance_tune.datasets.store import open_store
from balance_tune.studies.loading import load_config


@pytest.fixture(autouse=True)
def _root(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_ROOT", str(small_study.parent))


def test_the_winner_is_exported_as_a_model_a_card_and_a_study_file(
    small_study: Path, tmp_path: Path, capsys: Any
) -> None:
    import mlflow

    assert main(["best", "small", "--export", str(tmp_path / "out"), "-f", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    folder = Path(told["exported"])
    assert folder == tmp_path / "out" / "multiple_features"
    assert "Limits of the data" in (folder / "README.md").read_text()
    assert load_config(folder / "study.yaml").datasets == ("multiple_features",)

    part = open_store(small_study / "data" / "multiple_features").parts["val"]
    inputs = MultipleFeatures().read().inputs
    rows = pd.DataFrame({m: [x[row].astype(float).tolist() for row in part.rows.numpy()] for m, x in inputs.items()})
    answers = mlflow.pyfunc.load_model(str(folder / "model")).predict(rows)
    accuracy = np.mean(answers["label"].astype(int).to_numpy() == part.labels.numpy())
    assert main(["evaluate", str(folder / "model"), "--data", "multiple_features", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(accuracy)


def test_an_export_overwrites_nothing(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "multiple_features").mkdir()
    assert main(["best", "small", "--export", str(tmp_path)]) == 2
    assert "must not overwrite" in capsys.readouterr().err


def test_an_export_that_is_killed_leaves_nothing_under_its_name_and_the_next_one_is_whole(
    tmp_path: Path, capsys: Any
) -> None:
    code = """
import os, signal, sys
from balance_tune.cli import main
from balance_tune.studies.storage import durable
durable.adopt = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""
    words = ["best", "small", "--export", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".multiple_features.writing"]
    assert main(words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["multiple_features"]
    assert {path.name for path in (tmp_path / "multiple_features").iterdir()} == {"model", "README.md", "study.yaml"}
