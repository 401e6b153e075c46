"""The result is the study's: one slot, two slots, two nodes, kills and a pause give one leaderboard."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from balance_tune.studies.engine import run_study
from tests.cluster.nodes import nodes
from tests.cluster.study import STUDY, leaderboard, weights

pytestmark = pytest.mark.cluster

REPLICATED = {
    **STUDY,
    "datasets": ["multiple_features"],
    "methods": ["joint", "opm"],
    "replicates": 2,
    "placebo": True,
    "training": {"epochs": 12, "batch_size": 256},
    "search": {"trials": 4, "parallel": 2, "early_stopping": {"grace": 1, "reduction": 3}},
    "confirm": {"seeds": 1, "default_seeds": 1},
}


class Disturb(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Kills or stops the process that reports so many results after the beginning.

    Args:
        kills: counts of results at which the reporting process is killed.
        pause: the count at which it is stopped.
        seconds: until it goes on.
    """

    def __init__(self, kills: set[int], pause: int, seconds: float) -> None:
        self.kills, self.pause, self.seconds = kills, pause, seconds
        self.results, self.killed, self.timers = 0, 0, list[threading.Timer]()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.results += 1
        if self.results in self.kills:
            os.kill(result["pid"], signal.SIGKILL)
            self.killed += 1
        elif self.results == self.pause:
            os.kill(result["pid"], signal.SIGSTOP)
            self.timers.append(threading.Timer(self.seconds, os.kill, (result["pid"], signal.SIGCONT)))
            self.timers[-1].start()


def study(root: Path, slots: int, *callbacks: tune.Callback) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Run the study; return its leaderboard and the final weights of its trials."""
    resources = {"max_concurrent": slots}
    result = run_study({**REPLICATED, "resources": resources}, root=root, progress="none", callbacks=list(callbacks))
    assert result.state == "done"
    return leaderboard(root), weights(root)


def test_slots_nodes_kills_and_a_pause_of_a_minute_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb = Disturb(kills={5, 20, 50, 90, 140, 200}, pause=35, seconds=60)
    with nodes(1, monkeypatch, cpus=2):
        alone = study(tmp_path / "one slot", 1)
        assert study(tmp_path / "two slots", 2) == alone
        assert study(tmp_path / "disturbed", 2, disturb) == alone
    with nodes(2, monkeypatch):
        assert study(tmp_path / "two nodes", 2) == alone
    for timer in disturb.timers:
        timer.join()
    assert (disturb.killed, len(disturb.timers)) == (6, 1)
