"""The contracts that a third party's method or dataset can inherit; they need pytest."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balance_tune.testing.datasets import DatasetContract
    from balance_tune.testing.distributions import DistributionContract
    from balance_tune.testing.modulations import ModulationContract

_HOME = {
    "DatasetContract": "balance_tune.testing.datasets",
    "DistributionContract": "balance_tune.testing.distributions",
    "ModulationContract": "balance_tune.testing.modulations",
}

__all__ = ["DatasetContract", "DistributionContract", "ModulationContract"]


def __getattr__(name: str) -> Any:
    if name in _HOME:  # each contract loads only what it tests
        if _HOME[name] not in sys.modules:
            import pytest  # what lies beside the contracts does without it

            pytest.register_assert_rewrite(_HOME[name])  # a failure then shows the values it compared
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
