"""A finished study of one dataset of random numbers, really trained, as its folder and storage tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.store import build_store
from balance_tune.studies.protocol.selection import point_key, seed_of
from balance_tune.studies.results.leaderboard import rows_of
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.training.checkpoint import save_best
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare
from tests.datasets.tiny import Tiny

EPOCHS = 3
RATES = {"joint": 0.02, "ogm_ge": 0.1}


@dataclass
class Trained:
    """What a study hands to the tracker at its end."""

    folder: Path
    store: Path
    manifest: Manifest
    config: dict[str, Any]
    records: list[TrialRecord]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows_of(self.records, self.config, self.folder)


def train_study(root: Path, name: str) -> Trained:
    """Train two arms: one search, one select and two confirmation trials each, at the default."""
    folder, store = root / name, root / "data" / "tiny"
    manifest = build_store(Tiny(), store)
    config = {
        "name": name,
        "datasets": ["tiny"],
        "methods": list(RATES),
        "search": {"trials": 1},
        "select": {"points": 1, "seeds": 1},
        "confirm": {"seeds": 2, "default_seeds": 0},
        "seed": 0,
        "objective": "val/accuracy",
        "protocol": "sealed",
    }
    records = [
        _train(folder, store, method, phase, number, seed)
        for method in RATES
        for phase, number, seed in (
            ("search", 0, seed_of(0, "search", 0)),
            ("select", 0, seed_of(0, "select", 0)),
            ("confirm", 1, seed_of(0, "confirm", 0)),
            ("confirm", 2, seed_of(0, "confirm", 1)),
        )
    ]
    return Trained(folder, store, manifest, config, records)


def _train(folder: Path, store: Path, method: str, phase: Any, number: int, seed: int) -> TrialRecord:
    place = f"trials/tiny/{method}/{phase}-{number:04d}"
    params = {"training.lr": RATES[method]}
    run, modulation = prepare(
        {
            "arm": f"tiny/{method}", "dataset": "tiny", "method": method, "variant": None, "seed": seed,
            "store": str(store), "objective": "val/accuracy", "device": "cpu", "modulation": {},
            "training": {"epochs": EPOCHS, "batch_size": 8, "lr": RATES[method]}, "model": {"fusion": "concat"},
        }
    )  # fmt: skip
    history = list(train(run, modulation))
    (folder / place).mkdir(parents=True)
    (folder / place / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    save_best(run, folder / place)
    test = {"accuracy": 0.5 + 0.1 * number, "accuracy/a": 0.5, "accuracy/b": 0.4}
    if phase == "confirm":
        (folder / place / "test.json").write_text(json.dumps(test))
    attrs = {
        "seed": seed, "phase": phase, "default": phase == "search", "folder": place, "epochs": EPOCHS,
        "device_seconds": history[-1]["device_seconds"], "best_epoch": int(run.best.metrics["epoch"]),
        "metrics": dict(run.best.metrics), "point": point_key(params),
    }  # fmt: skip
    return TrialRecord(
        f"tiny/{method}", "tiny", method, phase, number, "complete", params, seed, run.best.value,
        curve={int(row["epoch"]): row["val/accuracy"] for row in history}, attrs=attrs,
    )  # fmt: skip
