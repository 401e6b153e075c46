"""Nodes that go: killed in the middle of a trial, or drained beforehand; the study comes to the same result."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from balance_tune.studies.engine import run_study
from tests.cluster.nodes import NEVER, drain, nodes
from tests.cluster.study import STUDY, count, leaderboard, told, weights

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the study that nothing happened to."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, nodes(1, patch):
        assert run_study(STUDY, root=root, progress="none").state == "done"
    return root


class Disturb(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Does `what` to the node of the trial that reports the study's `at`-th epoch; keeps the nodes of later reports."""

    def __init__(self, nodes: list[Any], at: int, what: Any) -> None:
        self.raylets = {n.all_processes["raylet"][0].process.pid: n for n in nodes}
        self.left, self.what = at, what
        self.disturbed: Any = None
        self.seen: list[tuple[Any, bool]] = []  # a node that reported, and whether the disturbance was over by then
        self.thread: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        stat = Path(f"/proc/{result['pid']}/stat")
        parent = int(stat.read_text().rpartition(")")[2].split()[1]) if stat.exists() else -1
        node = self.raylets.get(parent)
        self.left -= 1
        if self.left == 0:
            assert node is not None
            self.disturbed = node
            self.thread = threading.Thread(target=self.what, args=(node,))
            self.thread.start()
        elif self.thread is not None and node is not None:
            self.seen.append((node, not self.thread.is_alive()))


def test_a_node_killed_in_the_middle_costs_nothing_but_an_epoch(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes(2, monkeypatch) as (cluster, made):
        disturb = Disturb(made, 7, lambda node: cluster.remove_node(node, allow_graceful=False))
        result = run_study(STUDY, root=tmp_path, progress="none", callbacks=[disturb])
        assert disturb.thread is not None
        disturb.thread.join()
    assert result.state == "done"
    assert leaderboard(tmp_path) == leaderboard(undisturbed)
    assert told(tmp_path) == told(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)
    assert count(tmp_path, "preempted") == 1
    assert count(tmp_path, "lost") == 0
    assert count(tmp_path, "repeated") <= 2
    assert {node for node, over in disturb.seen if over} == set(made) - {disturb.disturbed}


def test_a_drained_node_is_left_with_the_state_saved_and_gets_no_new_trial(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes(2, monkeypatch, save_every=NEVER) as (cluster, made):
        disturb = Disturb(made, 3, lambda node: drain(cluster, node, 600))
        result = run_study(STUDY, root=tmp_path, progress="none", callbacks=[disturb])
        assert disturb.thread is not None
        disturb.thread.join()
    assert result.state == "done"
    assert leaderboard(tmp_path) == leaderboard(undisturbed)
    assert told(tmp_path) == told(undisturbed)
    assert count(tmp_path, "preempted") >= 1
    assert count(tmp_path, "repeated") == 0
    nodes_in_order = [node for node, _ in disturb.seen]
    first_elsewhere = next(i for i, node in enumerate(nodes_in_order) if node is not disturb.disturbed)
    assert disturb.disturbed not in nodes_in_order[first_elsewhere:]  # once left, never again
