"""A cluster of several nodes on this machine, each with a raylet of its own, and what may happen to its nodes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from balance_tune.studies.cluster.ray_cluster import ENVIRONMENT, pin
from tests.cluster.head import RAY

NEVER = 1e9  # seconds between two states of a trial: none is saved but the one that a notice asks for


@contextlib.contextmanager
def nodes(
    count: int,
    patch: pytest.MonkeyPatch,
    *,
    cpus: int = 1,
    dashboard: bool = False,
    save_every: float = 0.0,
    hook: Any = pin,
    **environment: str,
) -> Iterator[tuple[Cluster, list[Any]]]:
    """Yield a cluster of a head without CPUs and `count` nodes with `cpus` each, and this process connected to it.

    Where trials have several workers the `dashboard` is needed: what a stopped one held is freed by asking it. `hook`
    is what every worker process does first.
    """
    tmp = Path(tempfile.mkdtemp(prefix="bt"))  # sockets lie in it, so its name is short
    (tmp / "ray").mkdir()
    patch.setenv("RAY_TMPDIR", str(tmp))
    patch.setenv("RAY_AUTH_MODE", "disabled")  # cluster_utils starts its nodes itself
    patch.setenv("BALANCE_TUNE_SAVE_EVERY_S", str(save_every))
    patch.setenv("BALANCE_TUNE_REPORT_EVERY_S", "0")  # tests count the epochs they hear of
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp / 'mlflow.db'}")
    for name, value in {**ENVIRONMENT, **environment}.items():
        patch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": dashboard})
    try:
        made = [cluster.add_node(num_cpus=cpus) for _ in range(count)]
        ray.init(
            address=cluster.address, log_to_driver=False, logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": hook},
        )  # fmt: skip
        yield cluster, made
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(tmp, ignore_errors=True)


def drain(cluster: Cluster, node: Any, seconds: int) -> None:
    """Tell Ray that a node will be taken away in so many seconds; Ray itself ends nothing."""
    command = [
        str(RAY), "drain-node", "--address", cluster.address, "--node-id", node.node_id,
        "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test",
        "--deadline-remaining-seconds", str(seconds),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
