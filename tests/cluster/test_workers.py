"""Trials of two workers (gloo): stopped early, with a worker killed, and on a node that is drained."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.util import placement_group_table

from balance_tune.studies.engine import run_study
from tests.cluster.nodes import NEVER, drain, nodes
from tests.cluster.study import STUDY, count, leaderboard, living, records, told, weights

pytestmark = pytest.mark.cluster

TWO: dict[str, Any] = {
    **STUDY,
    "methods": ["joint"],
    "training": {"epochs": 12, "batch_size": 256},
    "search": {"trials": 2, "early_stopping": {"grace": 1, "reduction": 3}},
    "select": {"points": 1, "seeds": 0},
    "confirm": {"seeds": 2, "default_seeds": 0},
    "checkpoints": "all",
    "resources": {"max_concurrent": 1, "workers": 2},
}
NOTICE = 10  # seconds from the notice to the deadline


def workers() -> dict[int, int]:
    """Return the processes in which workers of trials train: process id to that of its raylet."""
    return dict(living(lambda line: "RayTrainWorker" in line))


class Groups(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Counts at every report the groups of workers that hold their places."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        groups = [g for g in placement_group_table().values() if len(g["bundles"]) == 2]
        self.held.append(sum(g["state"] == "CREATED" for g in groups))


class Disturb(tune.Callback):  # type: ignore[misc]
    """Does `what` to a worker of the study's first trial as that reports its `at`-th epoch; watches later workers."""

    def __init__(self, at: int, what: Callable[[int, int], None]) -> None:
        self.at, self.what = at, what
        self.first: dict[int, int] = {}
        self.later: list[dict[int, int]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        if self.first:
            self.later.append(workers())
        elif result["epoch"] == self.at:
            self.first = workers()
            self.what(*min(self.first.items()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Groups, dict[str, float]]:
    """The root of the study that nothing happened to, its groups, and what the cluster had to give afterwards."""
    root, groups = tmp_path_factory.mktemp("undisturbed"), Groups()
    with pytest.MonkeyPatch.context() as patch, nodes(1, patch, cpus=2, dashboard=True):
        assert run_study(TWO, root=root, progress="none", callbacks=[groups]).state == "done"
        free = ray.available_resources()
    return root, groups, free


def test_stopped_trials_free_what_their_workers_held(undisturbed: tuple[Path, Groups, dict[str, float]]) -> None:
    root, groups, free = undisturbed
    assert [r.state for r in records(root)] == ["complete", "pruned", "complete", "complete"]
    assert set(groups.held) == {1}  # two CPUs: the next group has its places only when those before have none
    assert free["CPU"] == 2


def test_a_killed_worker_costs_an_epoch_and_changes_no_weight(
    tmp_path: Path, undisturbed: tuple[Path, Groups, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = undisturbed[0]
    with nodes(1, monkeypatch, cpus=2, dashboard=True):
        kill = Disturb(5, lambda pid, raylet: os.kill(pid, signal.SIGKILL))
        assert run_study(TWO, root=tmp_path, progress="none", callbacks=[kill]).state == "done"
    assert len(kill.first) == 2
    assert leaderboard(tmp_path) == leaderboard(root)
    assert told(tmp_path) == told(root)
    assert weights(tmp_path) == weights(root)
    assert "multiple_features/joint/search-0000/best.safetensors" in weights(tmp_path)  # the disturbed one
    assert (count(tmp_path, "lost"), count(tmp_path, "preempted")) == (1, 0)
    assert count(tmp_path, "repeated") <= 1


def test_a_drained_node_is_left_by_the_deadline_with_the_state_saved_and_gets_no_new_trial(
    tmp_path: Path, undisturbed: tuple[Path, Groups, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = undisturbed[0]
    slow = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2.5"}  # an epoch each, so that the deadline falls into the trial
    with nodes(3, monkeypatch, dashboard=True, save_every=NEVER, **slow) as (cluster, made):
        raylets = {n.all_processes["raylet"][0].process.pid: n for n in made}
        drained = Disturb(1, lambda pid, raylet: drain(cluster, raylets[raylet], NOTICE))
        assert run_study(TWO, root=tmp_path, progress="none", callbacks=[drained]).state == "done"
    assert leaderboard(tmp_path) == leaderboard(root)
    assert told(tmp_path) == told(root)
    assert weights(tmp_path) == weights(root)
    assert (count(tmp_path, "lost"), count(tmp_path, "preempted")) == (0, 1)
    assert count(tmp_path, "repeated") <= 1  # only the notice had its state saved
    raylet = min(drained.first.items())[1]
    on_it = [raylet in found.values() for found in drained.later]
    assert on_it == sorted(on_it, reverse=True)  # once left, never again
    assert (on_it[0], on_it[-1]) == (True, False)
