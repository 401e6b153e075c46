"""A finished study of one dataset of random numbers, really trained, as its folder and storage tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage

from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.store import build_store
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.selection import point_key, seed_of
from balance_tune.studies.results.leaderboard import rows_of
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.records import CONFIRM, TrialRecord, read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.origin import origin_of
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

    @property
    def records(self) -> list[TrialRecord]:
        return read_records(self.folder)

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
    folder.mkdir()
    (folder / "study.yaml").write_text(read_config(config).as_yaml())
    (folder / "data").mkdir()
    (folder / "data" / "tiny.json").write_text(manifest.to_json())
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(StudyFolder(folder))
    for method in RATES:
        for phase, seed in (
            ("search", seed_of(0, "search", 0)),
            ("select", seed_of(0, "select", 0)),
            ("confirm", seed_of(0, "confirm", 0)),
            ("confirm", seed_of(0, "confirm", 1)),
        ):
            _train(folder, store, manifest, storage, method, phase, seed)
    return Trained(folder, store, manifest, config)


def _train(
    folder: Path, store: Path, manifest: Manifest, storage: BaseStorage, method: str, phase: Any, seed: int
) -> None:
    name = f"tiny/{method}" + ("" if phase == "search" else CONFIRM)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    number = len(study.get_trials())
    place = f"trials/tiny/{method}/{phase}-{number:04d}"
    params = {"training.lr": RATES[method]}
    config = {
        "arm": f"tiny/{method}", "dataset": "tiny", "method": method, "variant": None, "seed": seed,
        "store": str(store), "objective": "val/accuracy", "device": "cpu", "modulation": {},
        "training": {"epochs": EPOCHS, "batch_size": 8, "lr": RATES[method]}, "model": {"fusion": "concat"},
    }  # fmt: skip
    run, modulation = prepare(config)
    history = list(train(run, modulation))
    trial_file.write(StudyFolder(folder / place), config | origin_of(manifest))
    (folder / place / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    save_best(run, folder / place)
    if phase == "confirm":
        test = {"accuracy": 0.5 + 0.1 * number, "accuracy/a": 0.5, "accuracy/b": 0.4}
        (folder / place / "test.json").write_text(json.dumps(test))
    attrs = {
        "seed": seed, "phase": phase, "default": phase == "search", "folder": place, "epochs": EPOCHS,
        "device_seconds": history[-1]["device_seconds"], "best_epoch": int(run.best.metrics["epoch"]),
        "metrics": dict(run.best.metrics), "point": point_key(params),
    }  # fmt: skip
    study.add_trial(
        optuna.trial.create_trial(
            params=params,
            distributions={"training.lr": FloatDistribution(0.001, 1.0, log=True)},
            value=run.best.value,
            intermediate_values={int(row["epoch"]): row["val/accuracy"] for row in history},
            user_attrs=attrs,
        )
    )
