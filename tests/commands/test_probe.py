"""The linear probe of any finished trial, whether its checkpoint was kept or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balance_tune.cli import main
from balance_tune.studies.storage.records import read_records


@pytest.fixture(autouse=True)
def _root(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_ROOT", str(small_study.parent))


def probed(capsys: Any, *words: str) -> dict[str, Any]:
    assert main(["probe", "small", *words, "-f", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_complete_trial_is_probed_with_and_without_its_checkpoint(small_study: Path, capsys: Any) -> None:
    weights = next((small_study / "trials/multiple_features/mlb").glob("confirm-*/best.safetensors"))
    number = int(weights.parent.name.removeprefix("confirm-"))
    kept = probed(capsys, "multiple_features/mlb", str(number), "--phase", "confirm")
    assert kept["probe/accuracy"] > 0.5
    assert {"probe/accuracy/fourier", "probe/slice_accuracy/fourier", "val/accuracy"} <= kept.keys()
    hidden = weights.rename(weights.with_suffix(".hidden"))
    try:
        again = probed(capsys, "multiple_features/mlb", str(number), "--phase", "confirm")
    finally:
        hidden.rename(weights)
    assert again == kept


def test_a_pruned_trial_is_probed_too(small_study: Path, capsys: Any) -> None:
    pruned = next(r for r in read_records(small_study) if r.state == "pruned")
    found = probed(capsys, pruned.arm, str(pruned.number))
    assert 0 < found["probe/accuracy"] <= 1


def test_people_get_a_table(capsys: Any) -> None:
    assert main(["probe", "small", "multiple_features/joint", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["input", "own", "head", "share", "of", "joint", "head", "as", "trained"]
    assert [line.split()[0] for line in lines[3:]] == ["all", "fourier", "zernike", "karhunen", "morphological"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["multiple_features/mlp", "0"], "Did you mean `multiple_features/mlb`"),
        (["multiple_features/mlb", "99"], "has no search trial 99; there are: 0, 1, 2, 3"),
        (["multiple_features/mlb", "x"], "must be a trial's number"),
    ],
)
def test_a_trial_that_is_not_there_is_told_in_one_line(words: list[str], said: str, capsys: Any) -> None:
    assert main(["probe", "small", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
