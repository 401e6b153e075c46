"""Multiple Features: four sets of features of the same scanned numeral."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from balance_tune.datasets.base import Modality, Samples
from balance_tune.datasets.parquet import EMBEDDED, ParquetDataset, vectors
from balance_tune.datasets.splits import SplitRecipe

MLP = {"hidden": 64, "features": 64}
MEASURED = "balance_tune's own measurement on this data, 5 seeds"


class MultipleFeatures(ParquetDataset):
    """2,000 handwritten numerals, each seen as four vectors of features."""

    name = "multiple_features"
    version = 1
    path = EMBEDDED / "multiple_features.parquet"
    classes = tuple(str(digit) for digit in range(10))
    modalities: ClassVar[dict[str, Modality]] = {
        "fourier": Modality((76,), "mlp", MLP),
        "zernike": Modality((47,), "mlp", MLP),
        "karhunen": Modality((64,), "mlp", MLP),
        "morphological": Modality((6,), "mlp", MLP),
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
    split = SplitRecipe("stratified", train=500 / 2000, monitor=100 / 2000, val=300 / 2000, test=1100 / 2000)
    licence = "CC BY 4.0"
    source = "UCI Machine Learning Repository, Multiple Features (R. Duin)"
    limits = (
        "the four views are computed from one scan, so they share its noise",
        "six of the 2,000 numerals occur twice with identical features and may lie in two parts",
        "writers are not named, so the same hands may be in every part",
    )

    def read(self) -> Samples:
        columns = self.columns(["label", *self.modalities])
        labels = columns["label"].to_numpy().astype(np.int64)
        return Samples({name: vectors(columns[name]) for name in self.modalities}, labels)
