"""Studies of balanced multimodal training: which method, tuned how, helps on which data, and is the gain real?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.package import VERSION

if TYPE_CHECKING:
    from balance_tune.studies.engine import run_study

__version__ = VERSION
__all__ = ["UserError", "__version__", "run_study"]


def __getattr__(name: str) -> Any:
    if name == "run_study":  # loads ray and torch: only for those who run studies
        from balance_tune.studies.engine import run_study

        return run_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
