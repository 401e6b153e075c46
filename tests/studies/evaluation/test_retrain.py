"""A trial trained again in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from balance_tune.datasets.store import build_store
from balance_tune.errors import UserError
from balance_tune.studies.evaluation import retrain as module
from balance_tune.studies.evaluation.retrain import retrain, store_for
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.datasets.tiny import Tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    build_store(Tiny(), folder)
    return folder


def trial(**changes: Any) -> dict[str, Any]:
    training = {"epochs": 4, "batch_size": 8}
    return {
        "method": "joint", "seed": 3, "store": "elsewhere", "objective": "val/accuracy", "device": "cuda", "gpus": 0.0,
        "training": training, **changes,
    }  # fmt: skip


def test_the_same_trial_gives_the_same_epochs_and_as_many_as_are_asked_for(store: Path) -> None:
    rows, _ = retrain(trial(), str(store), 4)
    again, _ = retrain(trial(), str(store), 2)
    losses = [row["val/loss"] for row in rows]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["val/loss"] for row in again] == losses[:2]


def test_the_model_is_that_of_the_best_epoch(store: Path) -> None:
    rows, model = retrain(trial(), str(store), 4)
    best = max(rows, key=lambda row: (row["val/accuracy"], -row["epoch"]))
    _, shorter = retrain(trial(), str(store), int(best["epoch"]))
    for name, value in shorter.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_without_an_epoch_there_is_the_untrained_model(store: Path) -> None:
    rows, model = retrain(trial(), str(store), 0)
    assert rows == []
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_other_data_than_the_trials_is_refused(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = build_store(Tiny(), tmp_path / "copy")
    monkeypatch.setattr(module, "store_of", lambda name, given, root: (str(store), manifest))
    assert store_for(StudyFolder(tmp_path), "tiny", data_hash=manifest.data_hash)[0] == str(store)
    with pytest.raises(UserError, match="on the same data only") as caught:
        store_for(StudyFolder(tmp_path), "tiny", data_hash="0" * 64)
    assert "000000000000" in str(caught.value)
