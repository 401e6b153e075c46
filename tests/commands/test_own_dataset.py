"""A dataset of a user's own table, prepared below a root: commands find it by its name, where `--root` says."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from balance_tune.cli import main

RECIPE = {
    "name": "weather",
    "label": "sky",
    "modalities": {
        "morning": {"column": ["a", "b"], "kind": "numbers"},
        "evening": {"column": ["c"], "kind": "numbers"},
    },
}
STUDY = {"name": "s", "datasets": ["weather"], "methods": ["joint"], "training": {"epochs": 2, "batch_size": 8}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a study; the store is below its folder `mine`."""
    here = tmp_path_factory.mktemp("weather")
    generator = np.random.default_rng(0)
    with (here / "t.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["a", "b", "c", "sky"])
        for k in range(60):
            table.writerow([*generator.normal(2 * (k % 2), 1, 3).round(6).tolist(), ("clear", "grey")[k % 2]])
    (here / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (here / "study.yaml").write_text(yaml.safe_dump(STUDY))
    argv = ["data", "prepare", "table", "--source", str(here / "t.csv"), "--recipe", str(here / "recipe.yaml")]
    assert main([*argv, "--workers", "1", "--root", str(here / "mine")]) == 0
    return here


@pytest.fixture(autouse=True)
def _elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing but `--root` to say where the store is."""
    monkeypatch.chdir(tmp_path)
    for name in ("BALANCE_TUNE_ROOT", "BALANCE_TUNE_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("words", [["data", "info", "weather"], ["data", "verify", "weather"]])
def test_data_knows_it_by_name(words: list[str], folder: Path, capsys: Any) -> None:
    assert main([*words, "--root", str(folder / "mine")]) == 0
    assert "weather" in capsys.readouterr().out


def test_plan_finds_it_below_the_root(folder: Path, capsys: Any) -> None:
    assert main(["plan", str(folder / "study.yaml"), "--no-measure", "--root", str(folder / "mine")]) == 0
    assert "weather/joint" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "run", "doctor"])
def test_under_another_root_one_line_says_where_it_was_looked_for(
    command: str, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    assert main([command, str(folder / "study.yaml"), "--root", str(tmp_path / "other")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "`weather` is not installed and has no store in" in line
    assert str(tmp_path / "other" / "data" / "weather") in line


def test_evaluate_finds_it_and_reads_tables_of_it(folder: Path, tmp_path: Path, capsys: Any) -> None:
    from mlflow.models import Model

    from balance_tune.datasets.store import read_manifest
    from balance_tune.studies.tracking.models import packed
    from balance_tune.training.checkpoint import save_best
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    store = folder / "mine" / "data" / "weather"
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(store), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 2, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, tmp_path / "trial")
    with packed(Model(), tmp_path / "trial", read_manifest(store)) as made:
        made.rename(tmp_path / "model")
    words = ["evaluate", str(tmp_path / "model"), "-f", "json", "--root", str(folder / "mine"), "--data"]
    assert main([*words, "weather"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["accuracy"] == pytest.approx(run.best.metrics["val/accuracy"])
    assert main([*words, str(folder / "t.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 60
    assert main([*words, "wether"]) == 2
    assert f"one of your own in {folder / 'mine' / 'data'}" in capsys.readouterr().err
