"""A cloud's notice reaches Ray: the node of this machine is drained, and leaves since nothing runs on it."""

from __future__ import annotations

import pytest
import ray
from ray._raylet import GcsClient

from balance_tune.studies.cluster import spot
from tests.cluster.nodes import nodes
from tests.faults.driver import until

pytestmark = pytest.mark.cluster


def test_a_notice_drains_this_machines_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "remaining", lambda cloud, base: 60)
    with nodes(1, monkeypatch) as (cluster, _):  # head and node are on one machine: either may be its node
        ray.shutdown()

        def alive() -> int:
            return sum(n.state == n.ALIVE for n in GcsClient(address=cluster.address).get_all_node_info().values())

        assert alive() == 2
        spot.watch("aws", lambda seconds: spot.drain(cluster.address, seconds), 0.1, say=lambda line: None)
        until(lambda: alive() == 1, "the drained node to leave", patience=60)
