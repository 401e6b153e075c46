"""A trial as it was recorded, trained again: the same bits, or what is not the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balance_tune.cli import main
from balance_tune.studies.evaluation import reproduction
from balance_tune.studies.tracking.backend import connect, store_of


@pytest.fixture(autouse=True)
def runs(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The runs of the small study, by name."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BALANCE_TUNE_ROOT", str(small_study.parent))
    client = connect(store_of(small_study.parent))
    found = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    return {run.info.run_name: run for run in found}


def one(runs: dict[str, Any], state: str, phase: str) -> str:
    """Return the id of a trial's run that ended so."""
    tags = {"balance_tune.state": state, "balance_tune.phase": phase}
    return next(str(run.info.run_id) for run in runs.values() if tags.items() <= run.data.tags.items())


@pytest.mark.parametrize(("state", "phase"), [("complete", "search"), ("pruned", "search"), ("complete", "confirm")])
def test_a_trial_comes_out_bit_by_bit(runs: dict[str, Any], state: str, phase: str, capsys: Any) -> None:
    run_id = one(runs, state, phase)
    assert main(["reproduce", run_id, "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "bit-identical"
    assert told["epochs"] == (4 if state == "complete" else told["epochs"])
    assert told["values"] >= 8 * told["epochs"] >= 8
    assert told["circumstances"] == []
    assert main(["reproduce", run_id]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "bit-identical"


def test_another_result_is_told_with_its_place_and_ends_with_1(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    honest = reproduction.retrain

    def off(*given: Any) -> Any:
        rows, model = honest(*given)
        rows[2]["val/loss"] += 1e-4
        rows[3]["val/accuracy"] += 0.25
        return rows, model

    monkeypatch.setattr(reproduction, "retrain", off)
    run_id = one(runs, "complete", "search")
    assert main(["reproduce", run_id]) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("different: 2 values differ, first val/loss of epoch 3 (")
    assert "most val/accuracy of epoch 4 (" in line
    assert main(["reproduce", run_id, "--tolerance", "0.3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("within tolerance: 2 values differ")


def test_other_circumstances_are_told(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(reproduction, "version", lambda name: "99.0")
    monkeypatch.setattr(reproduction, "code_version", lambda: "another")
    assert main(["reproduce", one(runs, "complete", "search")]) == 0
    told = capsys.readouterr().out
    assert "not as it was: code " in told
    assert ", now 99.0" in told


def test_other_data_is_refused(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    honest = reproduction.recorded_trial

    def of_other_data(*given: Any) -> Any:
        name, trial = honest(*given)
        return name, {**trial, "data_hash": "0" * 64}

    monkeypatch.setattr(reproduction, "recorded_trial", of_other_data)
    assert main(["reproduce", one(runs, "complete", "search")]) == 2
    assert "on the same data only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "said"), [("absent", "there is no `absent`"), ("study", "is not; pick one below it")]
)
def test_what_cannot_be_trained_again_is_told_in_one_line(
    runs: dict[str, Any], which: str, said: str, capsys: Any
) -> None:
    run_id = runs["small"].info.run_id if which == "study" else which
    assert main(["reproduce", run_id]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
