"""MLflow: what people and programs see of a study. The study itself never waits for it and never depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balance_tune.studies.tracking.limits import check_limits
    from balance_tune.studies.tracking.page import ui
    from balance_tune.studies.tracking.tracker import Tracker

__all__ = ["Tracker", "check_limits", "ui"]

_HOMES = {"Tracker": "tracker", "check_limits": "limits", "ui": "page"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
