"""Studies of balanced multimodal training: which method, tuned how, helps on which data, and is the gain real?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.package import VERSION

if TYPE_CHECKING:
    from balance_tune.balancing.balancer import Balancer, balance
    from balance_tune.studies.engine import run_study

__version__ = VERSION
__all__ = ["Balancer", "UserError", "__version__", "balance", "run_study"]

_MODULES = {  # name -> module that has it; imported at the first use, for they load torch and Ray
    "Balancer": "balance_tune.balancing.balancer",
    "balance": "balance_tune.balancing.balancer",
    "run_study": "balance_tune.studies.engine",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that exists

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
