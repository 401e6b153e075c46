"""A stored model of every task, scored as validation scored its trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from balance_tune.datasets.store import build_store, open_store
from balance_tune.studies.data.file_table import FileTable
from balance_tune.studies.evaluation.assessment import assess_part, assess_table
from balance_tune.studies.tracking.models import preprocessing, signature
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.training.checkpoint import save_best
from balance_tune.training.evaluation import evaluate
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare
from tests.datasets.tiny import Tiny

RANDOM = np.random.default_rng(3)
TASKS: dict[str, dict[str, Any]] = {
    "classes": {},
    "multilabel": {
        "task": "multilabel",
        "classes": ("x", "y", "z"),
        "samples": {"labels": (RANDOM.random((40, 3)) > 0.5).astype(np.float32)},
    },
    "regression": {
        "task": "regression",
        "classes": ("p", "q"),
        "samples": {"labels": RANDOM.normal(0, 2, (40, 2)).astype(np.float32)},
    },
}
OBJECTIVE = {"classes": "val/accuracy", "multilabel": "val/map", "regression": "val/mae"}


@pytest.fixture(params=list(TASKS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Tiny, Served, Path]:
    """A dataset of random numbers of each task, and the model of one epoch on it."""
    task = request.param
    data = Tiny(**TASKS[task])
    manifest = build_store(data, tmp_path / "store")
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(tmp_path / "store"), "objective": OBJECTIVE[task], "device": "cpu",
         "training": {"epochs": 1, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, tmp_path)
    known = {**preprocessing(manifest, Tiny), "imports": []}
    (tmp_path / PREPROCESSING).write_text(json.dumps(known))
    outputs = [column.name for column in signature(manifest).outputs]
    model = Served(tmp_path)
    row = pd.DataFrame({"a": [[1.0, 2.0, 3.0]], "b": [[[0.0] * 4] * 2]})
    assert list(model.predict(row).columns) == outputs
    return task, data, model, tmp_path


def test_a_part_is_scored_as_the_trial_was(made: tuple[str, Tiny, Served, Path]) -> None:
    task, _, model, folder = made
    told = assess_part(model, folder / "store", "val")
    part = open_store(folder / "store").parts["val"]
    expected = evaluate(model.model, part)
    for name, value in expected.items():
        metric = name.removeprefix("val/")
        if "/" not in metric and metric != "gap":
            assert told[metric] == pytest.approx(value, abs=1e-5), metric
    assert [own["class"] for own in told["classes"]] == list(model.classes)
    assert set(told["modalities"]) == {"a", "b"}
    assert ("confusion" in told) == ("ece" in told) == (task == "classes")
    json.dumps(told)


def test_a_table_of_the_same_rows_is_scored_alike(made: tuple[str, Tiny, Served, Path]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    task, data, model, folder = made
    rows = open_store(folder / "store").parts["val"].rows.tolist()
    samples = data.read()
    labels: list[Any] = [samples.labels[row].tolist() for row in rows]
    if task == "multilabel":
        labels = [";".join(name for name, yes in zip("xyz", own, strict=True) if yes) for own in labels]
    table: dict[str, Any] = {m: [x[row].tolist() for row in rows] for m, x in samples.inputs.items()}
    parquet.write_table(pa.table({**table, "label": labels}), folder / "table.parquet")
    told = assess_table(model, FileTable(folder / "table.parquet", model.modalities, model.classes, model.task))
    part = assess_part(model, folder / "store", "val")
    assert told["rows"] == part["rows"] == len(rows)
    assert told["loss"] == pytest.approx(part["loss"], abs=1e-5)
    assert len(told["classes"]) == len(part["classes"])
