"""A method that trains as joint does once trials of the study run on several nodes at the same time.

No test imports it: it is known to studies that find it by its entry point, and to nobody else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from balance_tune.modulations.base import Modulation
from tests.cluster.meeting import NODES, PLACE, meet


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
