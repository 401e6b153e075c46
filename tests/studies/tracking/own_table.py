"""A user's own table of pictures, sounds and numbers, with a model that was really trained on it and packed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from mlflow.models import Model
from PIL import Image

from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.store import open_store
from balance_tune.datasets.table import Table
from balance_tune.studies.tracking.models import packed
from balance_tune.testing.distributions import prepared
from balance_tune.training.checkpoint import save_best
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare

RECIPE: dict[str, Any] = {
    "name": "wrens",
    "label": "species",
    "split": {"train": 0.5, "monitor": 0.1, "val": 0.2, "test": 0.2},
    "modalities": {
        "photo": {"column": "picture", "kind": "image", "size": 32, "augment": {"flip": {"p": 0.25}}},
        "song": {"column": "sound", "kind": "spectrogram", "rate": 8000, "seconds": 0.5, "encoder": "cnn"},
        "weather": {"column": ["warm", "wet"], "kind": "numbers"},
    },
}


@dataclass
class OwnTable:
    """`folder` holds table.csv and its files, `trial` the checkpoint, `model` the MLflow model."""

    folder: Path
    store: Path
    trial: Path
    model: Path
    manifest: Manifest
    rows: list[dict[str, str]]


def write_table(folder: Path, rows: int) -> list[dict[str, str]]:
    """Write `rows` birds of two species: pictures, sounds, and a table with a comma as the decimal sign."""
    generator = np.random.default_rng(0)
    made = []
    for k in range(rows):
        species = ("wren", "robin")[k % 2]
        pixels = generator.integers(0, 200, (40, 48, 3)).astype(np.uint8)
        pixels[..., k % 2] = 255
        Image.fromarray(pixels).save(folder / f"{k}.png")
        tone = np.sin(np.arange(4800) * (0.3 + 0.5 * (k % 2))) + generator.normal(0, 0.1, 4800)
        soundfile.write(folder / f"{k}.wav", 0.3 * tone, 9600)
        made.append(
            {"picture": f"{k}.png", "sound": f"{k}.wav", "warm": f"{k}.5", "wet": f"{k % 3}", "species": species}
        )
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(made[0]))
        table.writeheader()
        table.writerows(made)
    return made


def train_own(folder: Path) -> OwnTable:
    """Prepare the table, train one epoch of `joint`, and pack the model as a champion is."""
    rows = write_table(folder, 40)
    store = prepared(Table(RECIPE, folder / "table.csv"), folder, folder / "store")
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(store), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 1, "batch_size": 10}}
    )  # fmt: skip
    list(train(run, modulation))
    trial, model = folder / "trial", folder / "model"
    save_best(run, trial)
    manifest = open_store(store).manifest
    with packed(Model(), trial, manifest) as made:
        made.rename(model)
    return OwnTable(folder, store, trial, model, manifest, rows)
