"""Checks before the first trial that every node of the cluster can write, read and delete files below the root."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from balance_tune.datasets.address import bare
from balance_tune.datasets.place import Place
from balance_tune.errors import UserError
from balance_tune.studies.cluster.ray_cluster import TrialResources
from balance_tune.studies.storage.object_store import reason
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import one_line

ANSWER_WITHIN = 120.0  # seconds for a living node; the first task there starts a process


def preflight(root: StudyFolder, trial: TrialResources, patience: float, say: Callable[[str], None]) -> str:
    """Check the root from every living node, one that fits a trial included; return what is wrong, or nothing.

    Waits at most `patience` seconds for a node that fits a trial. To be called with Ray connected.

    Raises:
        UserError: a node does not see the driver's root.
    """
    import ray

    from balance_tune.studies.cluster.resource_timeout import too_long

    with shared_place(root) as (place, token):
        alive = [n for n in ray.nodes() if n["Alive"]]
        host_of = {task_on(n, try_storage).remote(place, token): n["NodeManagerHostname"] for n in alive}
        _check(root, host_of, ANSWER_WITHIN)
        if any(_takes(n["Resources"], trial) for n in alive):
            return ""
        say("waiting for the first node that can take a trial")
        first = ray.remote(num_cpus=trial.cpus, num_gpus=trial.gpus, max_retries=3)(try_storage).remote(place, token)
        if not ray.wait([first], timeout=patience)[0]:
            ray.cancel(first, force=True)
            return too_long({"CPU": trial.cpus, "GPU": trial.gpus}, patience, ray.cluster_resources())
        _check(root, {first: "a new node"}, ANSWER_WITHIN)
        return ""


def try_storage(where: str, token: str) -> str:
    """Read the driver's `token` at `where`, write one's own and delete it; return what went wrong, or nothing."""
    mine = f"{platform.node()}-{uuid.uuid4().hex}"
    try:
        place = Place.of(where)
        content = place.read("driver")
        place.write(mine, token.encode())
        back = place.read(mine)
        place.delete(mine)
    except OSError as error:
        return f"{reason(error)} ({bare(where)})"
    except UserError as error:
        return str(error)
    same = content == back == token.encode()
    return "" if same else f"another file lies under the same path ({bare(where)})"


@contextmanager
def shared_place(root: StudyFolder) -> Iterator[tuple[str, str]]:
    """Yield a folder or URI below `root`, for the block, and the token that the driver has written there."""
    folder, token = root / f".preflight-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    try:
        Place.of(folder.uri).write("driver", token.encode())
        yield folder.uri, token
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.clear_store()


def task_on(node: Mapping[str, Any], function: Callable[..., Any]) -> Any:
    """Return `function` as a task for one node (an entry of `ray.nodes()`) that reserves no resources."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function)


def _takes(resources: Mapping[str, float], trial: TrialResources) -> bool:
    return resources.get("CPU", 0) >= trial.cpus and resources.get("GPU", 0) >= min(trial.gpus, 1)


def _check(root: StudyFolder, host_of: Mapping[Any, str], patience: float) -> None:
    import ray

    ray.wait(list(host_of), num_returns=len(host_of), timeout=patience)
    for reference, name in host_of.items():
        try:
            wrong = ray.get(reference, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            wrong = "it does not answer"
        except ray.exceptions.RayError as error:
            wrong = one_line(str(error).strip().splitlines()[-1])[:200]
        if wrong:
            cure = "put --root on a folder that all nodes mount under the same path"
            if root.store is not None:
                cure = "let its role or credentials read, write and delete there"
            raise UserError(
                f"every node must write below the root, but {name} cannot write to {root.display_uri()}: "
                f"{wrong}; {cure}."
            )
