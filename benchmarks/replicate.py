"""Searches replayed on multi-seed recordings: what a replicate of a study chooses, without training anything.

Queue, sampler, early stopping, candidates and winner are the product's own. A training is the recorded curve of the
nearest recorded point under a recorded seed drawn at random. Recordings hold scores
only; for the choice between default and best point, hits on `VALIDATION_ROWS` validation rows are made up to fit a
score: rows have a difficulty that all trainings share, and half as much of each training's own.
"""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.selection import Rule, select_trainings, winner
from balance_tune.studies.search.study_queue import StudyQueue
from balance_tune.studies.storage.study_folder import StudyFolder
from benchmarks.recorded import Floats, Recording

VALIDATION_ROWS = 300
MARGINS = (0.0, 0.5, 1.0, 1.64, 2.0)  # of the rule that the default stays unless clearly beaten; 0: no such rule


@dataclass(frozen=True)
class Design:
    """Trainings of one search: search trials, points and seeds of the selection (the default is compared in any case).

    `replicates` searches, each confirmed on `confirm` fresh seeds, make a study.
    """

    trials: int
    points: int
    seeds: int
    replicates: int
    confirm: int
    default_seeds: int

    @property
    def trainings(self) -> int:
        """Trainings of one arm in a study."""
        each = self.trials + select_trainings(self.points, self.seeds) + self.confirm + self.default_seeds
        return self.replicates * each


def choices(recording: Recording, design: Design, searches: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the index of the point that each of so many independent searches chooses (searches, `MARGINS`)."""
    return np.array([_choices(recording, design, seed * searches + k) for k in range(searches)])


def _choices(recording: Recording, design: Design, seed: int) -> list[int]:
    config = read_config(
        {
            "name": "replay",
            "datasets": [recording.arm.dataset],
            "methods": [recording.arm.method],
            "search": {"trials": design.trials},
            "select": {"points": design.points, "seeds": design.seeds},
            "seed": seed,
        }
    )
    arm, rule = recording.arm.name, Rule.of(config.as_dict())
    with tempfile.TemporaryDirectory() as name:
        log = _InMemoryLog(Path(name) / "ledger.jsonl")
        pruner = Pruner(config.search.early_stopping, {arm: recording.epochs}, log, rule.objective)
        queue = _Queue(config, recording, log, Path(name))
        while queue.is_searching(arm) or (winner(queue.records(arm), rule) is None and not queue.is_finished()):
            trial = queue.next()
            assert trial is not None
            point, seed_index = trial.config["recorded"]
            _play(queue, pruner, trial.key, recording.val[point, seed_index])
        records = queue.records(arm)
    winners = [winner(records, replace(rule, margin=margin)) for margin in MARGINS]
    return [recording.default if best is None else recording.nearest(best.params, set()) for best in winners]


def _play(queue: StudyQueue, pruner: Pruner, key: TrialKey, curve: Floats) -> None:
    min_epochs = queue.live[key].min_epochs
    for epoch, value in enumerate(curve.tolist(), start=1):
        if math.isnan(value):
            queue.finish(key, "failed", "its loss was not finite")
            return
        best = int(curve[:epoch].argmax()) + 1
        row: dict[str, Any] = {
            "epoch": epoch,
            "val/accuracy": value,
            "best_epoch": best,
            "device_seconds": float(epoch),
        }
        if key.phase == "select" and epoch == len(curve):
            row["val_units"] = hits(curve[best - 1], queue.config.seed, key.number)
        queue.report(key, row)
        judged = key.phase == "search" and epoch < len(curve)
        if judged and pruner.should_prune(key.arm, key.number, epoch, value, min_epochs):
            queue.finish(key, "pruned")
            return
    queue.finish(key, "complete")


def hits(score: float, seed: int, number: int) -> str:
    """Return hits on validation rows, as a trial reports them, of a training with this score."""
    shared = np.random.default_rng([seed, 0]).normal(size=VALIDATION_ROWS)
    ease = shared + 0.5 * np.random.default_rng([seed, 1, number]).normal(size=VALIDATION_ROWS)
    hits = np.zeros(VALIDATION_ROWS, dtype="<f4")
    hits[np.argsort(ease)[VALIDATION_ROWS - round(score * VALIDATION_ROWS) :]] = 1
    return base64.b64encode(hits.tobytes()).decode()


class _InMemoryLog(PruningLog):
    def append(self, arm: str, decision: Decision) -> None:
        self._remember(arm, decision)


class _Queue(StudyQueue):
    """A study's queue in memory; a trial stands for the recorded point nearest to it."""

    def __init__(self, config: StudyConfig, recording: Recording, log: PruningLog, folder: Path) -> None:
        draw = np.random.default_rng(config.seed)

        def configure(
            arm: Any, params: Mapping[str, Any], phase: str, number: int, seed: int, *_: int
        ) -> dict[str, Any]:
            recorded = [recording.nearest(params, set()), int(draw.integers(recording.val.shape[1]))]
            return {"folder": str(folder / str(number)), "recorded": recorded}

        arms, storage = [recording.arm], optuna.storages.InMemoryStorage()
        super().__init__(config, arms, storage, log, StudyFolder(folder), configure=configure)
