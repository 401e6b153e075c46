"""Runs a task on each node of a cluster and returns the facts about that node."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from balance_tune.cache_folder import cache_folder
from balance_tune.datasets.place import is_remote
from balance_tune.package import VERSION
from balance_tune.studies.cluster.devices import gpus_here
from balance_tune.studies.cluster.preflight import shared_place, task_on, try_storage
from balance_tune.studies.doctor.nodes import Node
from balance_tune.studies.storage.study_folder import StudyFolder

PATIENCE = 120.0  # seconds for all nodes together; the first task on a node starts a process there
PACKAGES = ("ray", "torch", "optuna", "mlflow")
SHM = Path("/dev/shm")


def versions_here() -> dict[str, str]:
    """Return the versions that must be the same everywhere, Python's first."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    versions["balance_tune"] = VERSION  # of this code: with a job another one may be sent than is installed
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def memory_here() -> int:
    """Return the bytes of memory of this machine or container."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole


def look(where: str, token: str) -> dict[str, Any]:
    """Return the facts about this machine; runs in a task on it."""
    folder = cache_folder() if is_remote(where) else Path(where)
    nearest = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    torch_gpus, gpu_error = gpus_here()
    return {
        "name": platform.node(),
        "torch_gpus": torch_gpus,
        "gpu_error": gpu_error,
        "versions": versions_here(),
        "disk_free": shutil.disk_usage(nearest).free,
        "shm": shutil.disk_usage(SHM).total if SHM.is_dir() else None,
        "memory": memory_here(),
        "storage": try_storage(where, token),
    }


def clock() -> float:
    """Return this machine's time, in seconds since 1970."""
    return time.time()


def probe(root: StudyFolder, patience: float = PATIENCE) -> list[Node]:
    """Return every living node of the cluster this process is connected to, the head first."""
    import ray

    from balance_tune.studies.cluster.ray_cluster import HEAD

    with shared_place(root) as (place, token):
        alive = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: HEAD not in n["Resources"])
        references = [task_on(n, look).remote(place, token) for n in alive]
        ray.wait(references, num_returns=len(references), timeout=patience)
        return [_node(n, reference) for n, reference in zip(alive, references, strict=True)]


def _node(n: Mapping[str, Any], reference: Any) -> Node:
    import ray

    from balance_tune.studies.cluster.ray_cluster import HEAD

    resources = n["Resources"]
    what: dict[str, Any] = {
        "head": HEAD in resources,
        "ray_gpus": resources.get("GPU", 0.0),
        "cpus": resources.get("CPU", 0.0),
    }
    try:
        answer = ray.get(reference, timeout=0.1)
        before = time.time()
        there = ray.get(task_on(n, clock).remote(), timeout=30)  # its process is warm by now
        after = time.time()
    except ray.exceptions.GetTimeoutError:
        return Node(n["NodeManagerHostname"], error="no answer in time", **what)
    except ray.exceptions.RayError as error:
        return Node(n["NodeManagerHostname"], error=str(error).strip().splitlines()[-1][:200], **what)
    skew = max(0.0, there - after) or min(0.0, there - before)  # the remote clock was read at some time between the two
    return Node(**answer, **what, skew=skew)
