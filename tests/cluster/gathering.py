"""A method that trains as joint does once trials of the study run on several nodes at the same time."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from balance_tune.modulations.base import Modulation

PLACE = "BALANCE_TUNE_TEST_GATHERING"  # names the folder where trials that wait for each other say on which node
NODES = 3
PATIENCE = 400.0  # seconds that a trial waits for the others


@dataclass
class Gathering(Modulation):
    """Joint training; the first trial of each process waits in its first epoch until `NODES` nodes have one."""

    name: ClassVar[str] = "gathering"
    paper: ClassVar[str] = "none: a test"
    met: ClassVar[bool] = False

    def on_epoch_start(self, ctx: Any) -> None:
        if not Gathering.met:
            Gathering.met = True
            meet(Path(os.environ[PLACE]), NODES)


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
