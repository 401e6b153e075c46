"""What every process of a Ray whose GPUs are pretended does first (`worker_process_setup_hook`)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from balance_tune.training.context import RunContext
from tests.device.pretended import pretended
from tests.faults.traps import sprung

HOOK = f"{__name__}.pretend"
WORKING = "BALANCE_TUNE_TEST_GPUS"  # how many the node has that work; not set: its GPUs do not work
EPOCH = 2  # 0-based epoch in which the fault `sticky` strikes
_forever = ExitStack()


def pretend() -> None:
    """Have a device where the node has one that works; break it for good where the fault `sticky` was laid."""
    if WORKING not in os.environ:
        return
    from balance_tune.studies.cluster import devices, gpu_sharing

    device = _forever.enter_context(pretended())
    devices.gpus_here = lambda: (int(os.environ[WORKING]), "")
    measure = gpu_sharing._measure

    def measured(configs: Any) -> Any:
        device.broken = sprung("measurement")
        return measure(configs)

    gpu_sharing._measure = measured
    step = RunContext.default_step

    def default_step(ctx: RunContext, *rest: Any) -> Any:
        if ctx.device.type == "cuda" and ctx.epoch == EPOCH and sprung("sticky"):
            device.broken = True
        return step(ctx, *rest)

    RunContext.default_step = default_step  # type: ignore[method-assign]
