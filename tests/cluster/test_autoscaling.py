"""A study on a cluster that grows with it: cluster/local-autoscaling.yaml, whose nodes are processes here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.util import get_node_ip_address

from balance_tune.studies.storage.records import read_records
from tests.cluster.head import HERE, Head, free_port, processes, running_head
from tests.cluster.meeting import NODES, PLACE, present

pytestmark = pytest.mark.cluster

STUDY: dict[str, Any] = {
    "name": "grows",
    "datasets": ["multiple_features"],
    "methods": ["joint", "gathering"],
    "training": {"epochs": 3, "batch_size": 256},
    "replicates": NODES,  # an arm's search is a trial at a time, so that only replicates of `gathering` can meet
    "search": {"trials": 2, "early_stopping": {"grace": 1}},
    "select": {"points": 1, "seeds": 0},
    "confirm": {"seeds": 1, "default_seeds": 0},
}
PATIENCE = 300.0


def raylets(head: Head) -> int:
    """Return how many nodes the cluster has now, its head among them."""
    return sum("/raylet/raylet " in line for line in processes(str(head.folder)).values())


def config(folder: Path, port: int) -> Path:
    """Return the shipped file, made for this machine, and with nodes that are given back after six seconds."""
    text = (HERE / "cluster" / "local-autoscaling.yaml").read_text()
    made = yaml.safe_load(text.replace("HEAD_IP:6399", f"{get_node_ip_address()}:{port}"))
    made["idle_timeout_minutes"] = 0.1
    path = folder / "autoscaling.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


def plugin(folder: Path) -> Path:
    """Return a folder to put on the path, in which `gathering` is installed as a third party's method is."""
    info = folder / "site" / "gathering-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gathering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[balance_tune.modulations]\ngathering = tests.cluster.gathering:Gathering\n"
    )
    return info.parent


def test_a_study_has_the_cluster_grow_uses_all_of_it_at_once_and_gives_it_back(tmp_path: Path) -> None:
    place, port, study = tmp_path / "place", free_port(), tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    path = os.pathsep.join([str(HERE), str(plugin(tmp_path)), os.environ.get("PYTHONPATH", "")])
    fake = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0", PLACE: str(place), "PYTHONPATH": path}
    options = f"--autoscaling-config={config(tmp_path, port)}"
    with running_head(options, cpus=0, port=port, **fake) as head:
        assert raylets(head) == 1
        driver = subprocess.Popen(
            [sys.executable, "-m", "balance_tune", "run", str(study), "--root", str(tmp_path / "studies")],
            env={**head.environment, "RAY_ADDRESS": head.gcs, "BALANCE_TUNE_REACH": '{"CPU": 3}'},
            stdout=(log := (tmp_path / "driver.log").open("wb")), stderr=log,
        )  # fmt: skip
        most = 1
        while driver.poll() is None:
            most = max(most, raylets(head))
            time.sleep(0.5)
        log.close()
        assert driver.returncode == 0, (tmp_path / "driver.log").read_text()
        assert most == 1 + NODES
        assert len(present(place)) == NODES  # each waited for the others
        assert {r.state for r in read_records(tmp_path / "studies" / "grows")} <= {"complete", "pruned"}
        deadline = time.monotonic() + PATIENCE
        while raylets(head) > 1:
            assert time.monotonic() < deadline, "the nodes are not given back"
            time.sleep(0.5)
