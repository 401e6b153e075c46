"""The embedded data's stores, built once beside the other caches, for benchmarks that train without a study."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from balance_tune.datasets.store import build_store, store_name
from balance_tune.registry import datasets

CACHE = Path(tempfile.gettempdir()) / "balance_tune_benchmarks"


@cache
def store_of(dataset: str) -> Path:
    """Return the folder of a dataset's store."""
    made = datasets().get(dataset)()
    folder = CACHE / store_name(made)
    build_store(made, folder)
    return folder


def configuration(dataset: str, method: str, modulation: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Return a trial's configuration on one CPU thread."""
    return {
        "dataset": dataset,
        "method": method,
        "modulation": modulation,
        "variant": None,
        "store": str(store_of(dataset)),
        "model": {"fusion": "concat"},
        "training": {"epochs": 20, "lr": 0.01, **training},
        "objective": "val/accuracy",
        "seed": 0,
        "device": "cpu",
    }
