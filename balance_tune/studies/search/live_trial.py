"""The state of a running trial in the queue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.reporting import METRIC_PREFIXES
from balance_tune.studies.storage.study_folder import StudyFolder


@dataclass
class LiveTrial:
    """A running trial and its reports so far; `min_epochs` is the first epoch at which it may be pruned."""

    key: TrialKey
    trial_id: int
    folder: StudyFolder
    min_epochs: int = 0
    lost: int = 0
    preempted: int = 0
    repeated: int = 0  # epochs trained again after a loss
    reached: int = 0  # epoch that an earlier attempt had trained
    draining: bool = False
    host: str = ""  # that it runs on
    last_epoch: int = 0  # epoch of the last report
    epochs: int = 0
    device_seconds: float = 0.0
    best_epoch: int | None = None
    val_units: str | None = None  # of the best epoch, as `training.jackknife` packs them
    micro_batch: int | None = None  # rows encoded at a time since the device's memory was too small
    curve: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def take(self, row: Mapping[str, Any], objective: str) -> None:
        """Take the metrics of one epoch; "best_epoch" is the epoch of the kept weights."""
        self.epochs = int(row["epoch"])
        self.device_seconds = float(row.get("device_seconds", 0.0))
        self.best_epoch = int(row["best_epoch"])
        self.micro_batch = row.get("micro_batch", self.micro_batch)
        self.val_units = row.get("val_units", self.val_units)
        self.curve[self.epochs] = float(row[objective])
        self.metrics[self.epochs] = {
            name: float(value)
            for name, value in row.items()
            if name.startswith(METRIC_PREFIXES) and isinstance(value, int | float)
        }

    @property
    def value(self) -> float | None:
        """The objective at the best epoch, if there is one and it is a number."""
        value = math.nan if self.best_epoch is None else self.curve.get(self.best_epoch, math.nan)
        return value if math.isfinite(value) else None
