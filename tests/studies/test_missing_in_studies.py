"""A study whose rows lack modalities at random: trained, chosen, evaluated at several rates, told in report and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from balance_tune.commands.plan import missing_in_words
from balance_tune.studies.loading import load_config
from balance_tune.studies.results.report import html
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.tracking.models import trained_on_silence
from tests.studies import in_process
from tests.studies.test_tasks_in_studies import STUDY, Feelings

ARMS: list[Any] = ["joint", {"name": "decayed", "method": "joint", "set": {"training.weight_decay": 0.5}}]
MISSING = {"train": {"a": 0.4}, "val": {"a": 0.2}, "test": [0.5, 1.0]}


def test_a_model_of_complete_rows_was_not_trained_on_silence(tmp_path: Path) -> None:
    for missing in ({}, {"missing": {"train": {}, "val": {"a": 0.2}}}):
        (tmp_path / trial_file.FILE).write_text(json.dumps({"method": "joint", **missing}))
        assert not trained_on_silence(tmp_path)


def test_a_study_with_missing_modalities_and_a_named_arm(tmp_path: Path) -> None:
    assert Feelings.name == "feelings"
    raw = {**STUDY, "name": "lossy", "datasets": ["feelings"], "objective": "val/mae", "methods": ARMS}
    config = load_config({**raw, "missing": MISSING})
    folder = tmp_path / "lossy"
    rows = in_process.run(config, folder)
    assert {row["arm"]: row["definition"] for row in rows} == {
        "feelings/joint": None,
        "feelings/decayed": "joint with training.weight_decay = 0.5",
    }
    for r in read_records(folder):
        trial = trial_file.read(folder / r.attrs["folder"])
        assert trial is not None
        assert trial["missing"] == {"train": {"a": 0.4}, "val": {"a": 0.2}}
        assert trained_on_silence(folder / r.attrs["folder"])
        assert (trial["training"]["weight_decay"] == 0.5) == (r.arm == "feelings/decayed")
    tests = [json.loads(file.read_text()) for file in folder.rglob("test.json")]
    cases = [[(case["modality"], case["rate"], case["missing"]) for case in test["missing"]] for test in tests]
    assert len(cases) > 1
    assert all(case == cases[0] for case in cases), "all arms and seeds lack the same rows"
    for test in tests:
        whole, half, gone = (case for case in test["missing"] if case["modality"] == "a")
        assert whole["mae"] == test["mae"]
        assert whole["mae"] != half["mae"] != gone["mae"]
    page = html.write(folder).read_text()
    assert "a from 40 % of the training rows; a from 20 % of the validation rows" in page
    lines = list(csv.DictReader((folder / "report" / "robustness.csv").open()))
    row = next(row for row in rows if row["arm"] == "feelings/decayed")
    own = [x for x in lines if (x["method"], x["metric"], x["rate"]) == ("decayed", "mae", "0.0")]
    means = {x["modality"]: float(x["mean"]) for x in own}
    assert means == pytest.approx(dict.fromkeys(("a", "b", "all"), row["test_mean"]))
    assert missing_in_words(config)["feelings"].startswith("a from 40 % of the training rows")
