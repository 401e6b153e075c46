"""A real study in this process: the queue's trials trained, judged and evaluated on test rows, without Ray."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from balance_tune.datasets.store import build_store
from balance_tune.registry import datasets
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.data.stores import store_of as prepared_store
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.execution.sealed import evaluate_sealed
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from balance_tune.studies.results import leaderboard, tables
from balance_tune.studies.search.study_queue import StudyQueue
from balance_tune.studies.storage.records import cell_name
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.backend import store_of
from balance_tune.studies.tracking.origin import origin_of
from balance_tune.studies.tracking.sync import Sync, sync
from balance_tune.tasks import Objective
from benchmarks.in_process import train


def run(
    config: StudyConfig, folder: Path, *, tracked: bool = False, on_trial: Callable[[Sync], None] | None = None
) -> list[dict[str, Any]]:
    """Run a study with one trial at a time and return its leaderboard; with `tracked` it is written to MLflow.

    `on_trial` is called with what writes it, whenever a trial has ended.
    """
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(config.as_yaml())
    arms, stores = arms_of(config), {name: folder / "data" / name for name in config.datasets}
    manifests = {
        name: build_store(datasets().get(name)(), store)
        for name, store in stores.items()
        if name not in config.data.stores
    }
    for name in config.data.stores:  # prepared before
        place, manifests[name] = prepared_store(name, config.data.stores, StudyFolder(folder.parent) / "data")
        stores[name] = Path(place)
    (folder / "data").mkdir(exist_ok=True)
    for name, manifest in manifests.items():
        (folder / "data" / f"{name}.json").write_text(manifest.to_json())
    mlflow = store_of(StudyFolder(folder.parent), config.mlflow.tracking_uri)

    def configure(
        arm: Arm, params: Mapping[str, Any], phase: Any, number: int, seed: int, replicate: int
    ) -> dict[str, Any]:
        store = stores[arm.dataset]
        trial = trial_config(
            config, arm, params, phase=phase, number=number, seed=seed, study_folder=folder, store=store,
            replicate=replicate,
        )  # fmt: skip
        return trial | origin_of(manifests[arm.dataset])

    pruning_log = PruningLog(folder / "ledger.jsonl")
    cells = [(cell_name(arm.name, k), arm) for arm in arms for k in range(config.replicates)]
    epochs = {cell: arm.epochs(arm.space.defaults()) for cell, arm in cells}
    pruner = Pruner(config.search.early_stopping, epochs, pruning_log, Objective(config.objective))

    queue = StudyQueue(
        config, arms, open_storage(StudyFolder(folder)), pruning_log, StudyFolder(folder), configure=configure
    )
    live = Sync(folder, mlflow) if on_trial is not None else None
    gc.freeze()  # as a trial's own process does: it collects after every trial
    try:
        while (given := queue.next()) is not None:
            train(given, queue, pruner)
            if live is not None and on_trial is not None:
                on_trial(live)
    finally:
        gc.unfreeze()
    for key, record in queue.confirmed_trials():
        place, store = StudyFolder(folder / record.attrs["folder"]), stores[queue.arms[key.arm].dataset]
        evaluate_sealed(place, store, rates=config.missing.test)
    pruning_log.close()
    rows = leaderboard.build(folder)
    if tracked:
        tables.write_files(folder, rows)
        assert sync(folder, mlflow, "complete")
    return rows
