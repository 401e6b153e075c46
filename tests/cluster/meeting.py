"""Where trials of several nodes wait for each other: a folder in which each says where it is."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

PLACE = "BALANCE_TUNE_TEST_GATHERING"  # names the folder
NODES = 3
PATIENCE = 400.0  # seconds that a trial waits for the others


def meet(folder: Path, wanted: int) -> None:
    """Wait until processes on `wanted` different nodes are here; each goes only when all have been seen."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{node}-{uuid.uuid4().hex}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(present(folder)) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"trials on {len(present(folder))} nodes at a time, of {wanted} expected")
        time.sleep(0.1)


def present(folder: Path) -> set[str]:
    """Return the nodes on which trials have met or wait."""
    return {path.name.partition("-")[0] for path in folder.iterdir()}
