"""A dataset's miniature, prepared into a store of all its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balance_tune.datasets.splits import PARTS
from balance_tune.datasets.store import Data, open_store
from balance_tune.registry import datasets
from balance_tune.testing.distributions import prepared


def miniature(name: str, folder: Path) -> tuple[Any, Path, Data]:
    """Return the dataset called `name`, the folder of its miniature below `folder`, and the store made of it."""
    dataset: Any = datasets().get(name)()
    source = folder / "source"
    source.mkdir()
    dataset.miniature(source)
    return dataset, source, open_store(prepared(dataset, source, folder / "store"), PARTS, unseal=True)
