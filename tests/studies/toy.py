"""Toy studies without training: arms whose learning curves are formulas, and a driver that plays a queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.search.study_queue import StudyQueue
from balance_tune.studies.storage.records import cell_name
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.tasks import Objective

EPOCHS = 9
Curve = Callable[[Mapping[str, Any], int], float]  # (params, epoch) -> objective


def names_of(config: StudyConfig) -> tuple[str, ...]:
    """Return the names of a study's methods and arms, in their order."""
    return tuple(entry.name for entry in config.methods)


@dataclass(frozen=True)
class ToyArm(Arm):
    """An arm with one parameter, "modulation.x" in [0, 1]."""

    least: int = 0

    def min_epochs(self, params: Mapping[str, Any]) -> int:
        return self.least


def toy_arm(name: str, min_epochs: int = 0, epochs: int = EPOCHS) -> ToyArm:
    dataset, _, method = name.partition("/")
    x = Parameter("modulation.x", "float", 0.0, 1.0, False, None, 0.5, "a paper")
    space = Space((x,), {"training.epochs": Fixed(epochs, "study file")})
    return ToyArm(dataset, method, None, space, least=min_epochs)


def toy_config(**changes: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "name": "toy",
        "datasets": ["d1", "d2"],
        "methods": ["joint", "mlb"],
        "search": {"trials": 5, "sampler": "random", "early_stopping": {"reduction": 3, "grace": 1}},
        "select": {"points": 1, "seeds": 1, "margin": 0.0},
        "confirm": {"seeds": 2, "default_seeds": 1},
    }
    return read_config({**values, **changes})


def bowl(params: Mapping[str, Any], epoch: int) -> float:
    """Best at x = 0.7, and better the longer it is trained."""
    return float((1 - (params["modulation.x"] - 0.7) ** 2) * (1 - 0.5**epoch))


@dataclass
class ToyStudy:
    """A study folder, the queue over it, and what was played: `started` in order, `epochs` trained by trial."""

    folder: Path
    config: StudyConfig = field(default_factory=toy_config)
    arms: tuple[ToyArm, ...] = ()
    curve: Curve = bowl
    slots: int = 1
    started: list[TrialKey] = field(default_factory=list)
    trained: dict[TrialKey, list[int]] = field(default_factory=dict)
    ended: dict[TrialKey, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arms = self.arms or tuple(toy_arm(f"{d}/{m}") for d in self.config.datasets for m in names_of(self.config))
        self.reopen()

    def reopen(self, *, retry_failed: bool = False) -> None:
        """Begin another run of the study, with nothing but what is on disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pruning_log = PruningLog(self.folder / "ledger.jsonl")
        cells = [(cell_name(arm.name, k), arm) for arm in self.arms for k in range(self.config.replicates)]
        self.pruner = Pruner(
            self.config.search.early_stopping,
            {cell: arm.epochs(arm.space.defaults()) for cell, arm in cells},
            self.pruning_log,
            Objective(self.config.objective),
            self.config.search.parallel,
        )
        self.queue = StudyQueue(
            self.config,
            self.arms,
            open_storage(StudyFolder(self.folder)),
            self.pruning_log,
            StudyFolder(self.folder),
            configure=self.configure,
            retry_failed=retry_failed,
            on_trial_end=lambda key, state, attrs: self.ended.__setitem__(key, state),
        )

    def configure(
        self, arm: Arm, params: Mapping[str, Any], phase: str, number: int, seed: int, replicate: int
    ) -> dict[str, Any]:
        folder = self.folder / "trials" / cell_name(arm.name, replicate) / f"{phase}-{number:04d}"
        return {"arm": arm.name, "phase": phase, "number": number, "seed": seed, "folder": str(folder), **params}

    def play(self, steps: int | None = None) -> None:
        """Train what the queue hands out, an epoch of each live trial in turn, to the end or for so many epochs."""
        live: dict[TrialKey, tuple[dict[str, Any], int]] = {}
        done = 0
        while steps is None or done < steps:
            while len(live) < self.slots and (given := self.queue.next()) is not None:
                self.started.append(given.key)
                live[given.key] = (given.config, 0)
            if not live:
                return
            for key, (config, epoch) in list(live.items()):
                done += 1
                live[key] = (config, epoch + 1)
                if self._epoch(key, config, epoch + 1):
                    del live[key]

    def _epoch(self, key: TrialKey, config: dict[str, Any], epoch: int) -> bool:
        value = self.curve(config, epoch)
        history = Path(config["folder"]) / "history.jsonl"
        rows = [json.loads(line) for line in history.read_text().splitlines()] if epoch > 1 else []
        best = max([*rows, {"epoch": epoch, "val/accuracy": value}], key=lambda r: (r["val/accuracy"], -r["epoch"]))
        row = {"epoch": epoch, "val/accuracy": value, "best_epoch": best["epoch"], "device_seconds": float(epoch)}
        history.parent.mkdir(parents=True, exist_ok=True)
        history.write_text("".join(json.dumps(r) + "\n" for r in [*rows, row]))
        self.trained.setdefault(key, []).append(epoch)
        min_epochs = self.queue.live[key].min_epochs
        stop = (
            key.phase == "search"
            and epoch < EPOCHS
            and self.pruner.should_prune(key.cell, key.number, epoch, value, min_epochs)
        )
        self.queue.report(key, row)
        if stop or epoch == EPOCHS:
            self.queue.finish(key, "pruned" if stop else "complete")
        return stop or epoch == EPOCHS

    def winner(self, arm: str) -> float | None:
        """Return x of the arm's best completed search trial."""
        done = [r for r in self.queue.records(arm) if r.phase == "search" and r.state == "complete"]
        best = max(done, key=lambda r: r.value or 0.0, default=None)
        return None if best is None else float(best.params["modulation.x"])
