"""A dataset of random numbers that builds in milliseconds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.splits import SplitRecipe


class Tiny(Dataset):
    """40 samples of 2 classes and 8 groups; `changes` replace what it declares, `samples` what it reads.

    Its name is the instance's alone, so that no study ever finds it.
    """

    classes = ("no", "yes")
    modalities: ClassVar[dict[str, Modality]] = {"a": Modality((3,), "mlp"), "b": Modality((2, 4), "cnn1d")}
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {"lr": (0.1, "made up")}
    split = SplitRecipe("stratified", train=0.5, monitor=0.1, val=0.2, test=0.2)
    licence, source, limits = "none", "random numbers", ("means nothing",)

    def __init__(self, samples: dict[str, Any] | None = None, **changes: Any) -> None:
        self.name = "tiny"  # type: ignore[misc]
        self.samples = samples or {}
        for attribute, value in changes.items():
            setattr(self, attribute, value)

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        given: dict[str, Any] = {
            "inputs": {"a": generator.normal(5, 2, (40, 3)), "b": generator.normal(-1, 3, (40, 2, 4))},
            "labels": np.arange(40) % 2,
            "groups": np.arange(40) // 5,
        }
        return Samples(**{**given, **self.samples})
