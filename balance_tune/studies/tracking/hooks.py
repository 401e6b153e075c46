"""Hooks for Ray Tune that hand what happens to the tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ray.tune import Callback

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class TrialObserver(Protocol):
    """Receives starts and epochs of trials."""

    def trial_started(self, config: Mapping[str, Any]) -> None: ...

    def trial_reported(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None: ...


class Hooks(Callback):  # type: ignore[misc]
    """Tells the tracker of starts and epochs; how a trial ended, only the searcher knows (Tune gives no reason).

    Tune pickles its callbacks; the pickle is empty and its copy does nothing, for a study never goes on from it.
    """

    def __init__(self, tracker: TrialObserver | None = None) -> None:
        self._tracker = tracker

    def __getstate__(self) -> dict[str, Any]:
        return {"_tracker": None}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self._tracker is not None:
            self._tracker.trial_started(trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if self._tracker is not None:
            self._tracker.trial_reported(trial.config, result)
