"""Before the first trial on a cluster: a task on its nodes writes, reads and deletes below the root, as trials will."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.cluster import Shape
from balance_tune.studies.wording import one_line

ANSWER_WITHIN = 120.0  # seconds for a living node; the first task there starts a process


def preflight(root: Path, shape: Shape, patience: float, say: Callable[[str], None]) -> str:
    """Try the root from every living node, and from a first one that can take a trial; return why not, or nothing.

    Where no such node is there yet, one is waited for, at most `patience` seconds. To be called with Ray connected.

    Raises:
        UserError: a node does not see the driver's root.
    """
    import ray

    from balance_tune.studies.waiting import too_long

    with shared_folder(root) as (folder, token):
        alive = [n for n in ray.nodes() if n["Alive"]]
        asked = {task_on(n, try_storage).remote(folder, token): n["NodeManagerHostname"] for n in alive}
        _check(root, asked, ANSWER_WITHIN)
        if any(_takes(n["Resources"], shape) for n in alive):
            return ""
        say("waiting for the first node that can take a trial")
        first = ray.remote(num_cpus=shape.cpus, num_gpus=shape.gpus, max_retries=3)(try_storage).remote(folder, token)
        if not ray.wait([first], timeout=patience)[0]:
            ray.cancel(first, force=True)
            return too_long({"CPU": shape.cpus, "GPU": shape.gpus}, patience, ray.cluster_resources())
        _check(root, {first: "a new node"}, ANSWER_WITHIN)
        return ""


def try_storage(folder: Path, token: str) -> str:
    """Read the driver's `token` in `folder`, write one's own and delete it; return what went wrong, or nothing."""
    mine = folder / f"{platform.node()}-{uuid.uuid4().hex}"
    try:
        found = (folder / "driver").read_text()
        mine.write_text(token)
        back = mine.read_text()
        mine.unlink()
    except OSError as error:
        return f"{error.strerror or error} ({folder})"
    return "" if found == back == token else f"another file lies under the same path ({folder})"


@contextmanager
def shared_folder(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder below `root`, for the time being, and the token that the driver has written into it."""
    folder, token = root / f".preflight-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        (folder / "driver").write_text(token)
        yield folder, token
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def task_on(node: Mapping[str, Any], function: Callable[..., Any]) -> Any:
    """Return `function` as a task for one node (as `ray.nodes()` tells it), which takes nothing of what that offers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function)


def _takes(resources: Mapping[str, float], shape: Shape) -> bool:
    return resources.get("CPU", 0) >= shape.cpus and resources.get("GPU", 0) >= min(shape.gpus, 1)


def _check(root: Path, asked: Mapping[Any, str], patience: float) -> None:
    import ray

    ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    for reference, name in asked.items():
        try:
            wrong = ray.get(reference, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            wrong = "it does not answer"
        except ray.exceptions.RayError as error:
            wrong = one_line(str(error).strip().splitlines()[-1])[:200]
        if wrong:
            raise UserError(
                f"every node must write below the root, but {name} cannot write to {root}: {wrong}; put --root on a "
                "folder that all nodes mount under the same path."
            )
