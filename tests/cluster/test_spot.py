"""A cloud's notice reaches Ray: the node of this machine is drained, and leaves since nothing runs on it."""

from __future__ import annotations

import pytest
import ray

from balance_tune.studies import spot
from tests.cluster.nodes import nodes
from tests.faults.driver import until

pytestmark = pytest.mark.cluster


def test_a_notice_drains_this_machines_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "remaining", lambda cloud, base: 60)
    with nodes(1, monkeypatch) as (cluster, _):  # head and node have one address: either may be found
        assert all(node["Alive"] for node in ray.nodes())
        spot.watch("aws", lambda seconds: spot.drain(cluster.address, seconds), every=0.1, say=lambda line: None)
        until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, "the drained node to leave", patience=60)
