"""Watch: shoulder exercises seen by the accelerometer and the gyroscope of a smart watch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.base import Modality, Samples
from balance_tune.datasets.parquet import EMBEDDED, ParquetDataset
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError

WINDOW = 100  # samples: 2 s at 50 Hz
STEP = 100
CNN1D = {"channels": [16, 16, 32], "features": 64}
MEASURED = "balance_tune's own measurement on this data, 5 seeds"


class Watch(ParquetDataset):
    """2,369 windows of 2 s from 140 recordings of ten people doing seven exercises with either arm."""

    name = "watch"
    version = 1
    path = EMBEDDED / "watch.parquet"
    classes = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    modalities: ClassVar[dict[str, Modality]] = {
        "accelerometer": Modality((3, WINDOW), "cnn1d", CNN1D),
        "gyroscope": Modality((3, WINDOW), "cnn1d", CNN1D),
    }
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {
        "epochs": (20, MEASURED),
        "batch_size": (64, MEASURED),
        "optimizer": ("sgd", MEASURED),
        "lr": (0.05, MEASURED),
        "momentum": (0.9, MEASURED),
        "weight_decay": (1e-4, MEASURED),
        "schedule": ("cosine", MEASURED),
    }
    split = SplitRecipe("group", train=0.4, monitor=0.1, val=0.2, test=0.3)
    licence = "BSD-3-Clause"
    source = "seglearn (D. Burns), part of the data of Burns et al., Physiological Measurement 39 (2018) 075007"
    limits = (
        "ten people, split by person: four train, one monitors, two validate, three test",
        "windows of one recording are alike, so test uncertainty must be counted by person",
    )

    def read(self) -> Samples:
        columns = self.columns(["label", "subject", *self.modalities])
        windows: dict[str, list[NDArray[np.float32]]] = {}
        for name in self.modalities:
            windows[name] = [cut(series, name, row) for row, series in enumerate(_series(columns[name]))]
        counts = {name: [len(w) for w in cuts] for name, cuts in windows.items()}
        if counts["accelerometer"] != counts["gyroscope"]:
            raise UserError(f"both sensors of {self.path} must be equally long in every row, but they are not.")
        repeats = counts["accelerometer"]
        return Samples(
            {name: np.concatenate(cuts) for name, cuts in windows.items()},
            labels=np.repeat(columns["label"].to_numpy().astype(np.int64), repeats),
            groups=np.repeat(columns["subject"].to_numpy().astype(np.int64), repeats),
        )


def cut(series: NDArray[np.float32], name: str = "series", row: int = 0) -> NDArray[np.float32]:
    """Return the windows (windows, 3, 100) of a series, flat and row-major (T x 3); a rest shorter than one is left."""
    if len(series) % 3 or len(series) < 3 * WINDOW:
        raise UserError(f"`{name}` of row {row} must be T x 3 values with T >= {WINDOW}, but got {len(series)} values.")
    steps = series.reshape(-1, 3)
    starts = range(0, len(steps) - WINDOW + 1, STEP)
    return np.stack([steps[start : start + WINDOW].T for start in starts])


def _series(column: Any) -> list[NDArray[np.float32]]:
    """Return the rows of a pyarrow column of lists, without a copy."""
    values, offsets = column.values.to_numpy(), column.offsets.to_numpy()
    return [values[start:stop] for start, stop in pairwise(offsets)]
