"""A model of AV-Digits that was really trained and registered as champion, for tests of what is done with one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.store import build_store, store_name
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, store_of
from balance_tune.studies.tracking.champions import Champions
from balance_tune.studies.tracking.client import Client
from balance_tune.training.checkpoint import save_best
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare

URI = "models:/digits-av_digits@champion"


@dataclass
class Digits:
    """Where it all lies; `folder` is the trial's, `data` the store of its data, `mlflow` that of its model."""

    root: Path
    folder: Path
    data: Path
    mlflow: Store
    manifest: Manifest
    metrics: dict[str, float]


def train_digits(root: Path, device: str = "cpu") -> Digits:
    """Train two epochs of `joint` and register the result as the champion of a study called `digits`."""
    data = root / "data" / store_name(AvDigits())
    manifest = build_store(AvDigits(), data)
    place = "trials/av_digits/joint/confirm-0000"
    folder = root / "digits" / place
    given: dict[str, Any] = {
        "method": "joint", "seed": 0, "store": str(data), "objective": "val/accuracy", "device": device,
        "training": {name: value for name, (value, _) in AvDigits.recipe.items()} | {"epochs": 2},
    }  # fmt: skip
    run, modulation = prepare(given)
    list(train(run, modulation))
    save_best(run, folder)
    client = Client(store_of(root), "digits", "1d")
    client.open()
    candidate = {
        "arm": "av_digits/joint", "trial": ["confirm", 0], "folder": place, "objective": "val/accuracy",
        "val": run.best.value, "test_mean": None, "seeds": 1, "replicate": 0, "replicates": 1,
        "split_hash": manifest.split_hash, "data_hash": manifest.data_hash,
    }  # fmt: skip
    Champions(client, StudyFolder(root / "digits")).register_champion([candidate], manifest)
    return Digits(root, folder, data, client.store, manifest, run.best.metrics)
