"""A real study in this process: the queue's trials trained, judged and evaluated on test rows, without Ray."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balance_tune.datasets.store import build_store
from balance_tune.registry import datasets
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.execution.sealed import evaluate_sealed
from balance_tune.studies.execution.trial import work
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.results import leaderboard, tables
from balance_tune.studies.search.study_queue import Assignment, StudyQueue
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.studies.tracking.tracker import Tracker
from balance_tune.tasks import Objective


def run(config: StudyConfig, folder: Path, *, tracked: bool = False) -> list[dict[str, Any]]:
    """Run a study with one trial at a time and return its leaderboard; with `tracked`, MLflow is told of it."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(config.as_yaml())
    arms, stores = arms_of(config), {name: folder / "data" / name for name in config.datasets}
    manifests = {name: build_store(datasets().get(name)(), store) for name, store in stores.items()}
    tracker = Tracker(config, folder, arms, manifests) if tracked else None

    def configure(arm: Arm, params: Mapping[str, Any], phase: Any, number: int, seed: int) -> dict[str, Any]:
        store = stores[arm.dataset]
        return trial_config(
            config, arm, params, phase=phase, number=number, seed=seed, study_folder=folder, store=store
        )

    pruning_log = PruningLog(folder / "ledger.jsonl")
    epochs = {arm.name: arm.epochs(arm.space.defaults()) for arm in arms}
    pruner = Pruner(config.search.early_stopping, epochs, pruning_log, Objective(config.objective))

    def on_trial_end(key: TrialKey, state: str, attrs: Mapping[str, Any]) -> None:
        if tracker is not None:
            tracker.trial_finished(key.arm, key.phase, key.number, state, attrs)

    queue = StudyQueue(
        config,
        arms,
        open_storage(StudyFolder(folder)),
        pruning_log,
        StudyFolder(folder),
        configure=configure,
        on_trial_end=on_trial_end,
    )
    gc.freeze()  # as a trial's own process does: it collects after every trial
    try:
        while (given := queue.next()) is not None:
            _train(given, queue, pruner, tracker)
    finally:
        gc.unfreeze()
    for key, record in queue.confirmed():
        place = folder / record.attrs["folder"]
        found = evaluate_sealed(StudyFolder(place), stores[queue.arms[key.arm].dataset])
        if tracker is not None:
            tracker.sealed(key.arm, key.number, found, place)
    pruning_log.close()
    rows = leaderboard.build(folder)
    if tracker is not None:
        tables.write_files(folder, rows)
        tracker.finish(rows, folder / "report")
    return rows


def _train(given: Assignment, queue: StudyQueue, pruner: Pruner, tracker: Tracker | None) -> None:
    key, last = given.key, {}
    min_epochs = queue.live[key].min_epochs

    if tracker is not None:
        tracker.trial_started(given.config)

    def report(row: dict[str, Any]) -> None:
        last.update(row)
        if tracker is not None:
            tracker.trial_reported(given.config, row)
        if row["state"] == "failed":
            return
        going = key.phase == "search" and row["state"] == "running"
        stop = going and pruner.should_prune(
            key.arm, key.number, row["epoch"], row[given.config["objective"]], min_epochs
        )
        queue.report(key, row)
        if stop:
            raise SystemExit

    try:
        work(given.config, report)
    except SystemExit:
        queue.finish(key, "pruned")
    else:
        queue.finish(key, last["state"], last.get("reason", ""))
