"""Hooks for Ray Tune that hand what happens to the tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune import Callback

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from balance_tune.studies.tracking.tracker import Tracker


class Hooks(Callback):  # type: ignore[misc]
    """Tells the tracker of starts and epochs; how a trial ended, only the searcher knows (Tune gives no reason).

    Tune pickles its callbacks; the pickle is empty and its copy does nothing, for a study never goes on from it.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
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
