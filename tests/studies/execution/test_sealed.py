"""The sealed test evaluation of one checkpoint, without Ray."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from balance_tune.datasets.store import build_store, open_store
from balance_tune.studies.execution.sealed import evaluate_sealed
from balance_tune.studies.execution.trial import work
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.training.checkpoint import load_best
from tests.datasets.tiny import Tiny
from tests.studies.execution.test_trial import Reports, config_of


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    store, folder = tmp_path / "data", tmp_path / "trial"
    build_store(Tiny(), store)
    work(config_of(folder, store), Reports())
    return folder, store


def test_the_best_checkpoint_is_evaluated_on_test_rows_row_by_row(trained: tuple[Path, Path]) -> None:
    folder, store = trained
    result = evaluate_sealed(StudyFolder(folder), store)
    assert result == json.loads((folder / "test.json").read_text())
    part = open_store(store, parts=("test",), unseal=True).parts["test"]
    assert result["n"] == len(part)
    assert part.groups is not None
    assert result["groups"] == part.groups.tolist()
    packed = np.frombuffer(base64.b64decode(result["correct"]), dtype=np.uint8)
    correct = np.unpackbits(packed, count=result["n"])
    assert correct.mean() == pytest.approx(result["accuracy"])
    model = load_best(folder)
    with torch.inference_mode():
        guess = model.fusion(model.encode(part.inputs)).argmax(1)
    assert correct.tolist() == (guess == part.labels).int().tolist()
    assert sum(map(sum, result["confusion"])) == result["n"]
    assert sum(row[i] for i, row in enumerate(result["confusion"])) == correct.sum()
    assert 0 <= result["ece"] <= 1
    assert {"accuracy/a", "accuracy/b", "macro_f1", "loss"} <= result.keys()


def test_a_checkpoint_meets_the_test_rows_once(trained: tuple[Path, Path]) -> None:
    folder, store = trained
    first = evaluate_sealed(StudyFolder(folder), store)
    (store / "test.arrow").unlink()
    assert evaluate_sealed(StudyFolder(folder), store) == first
