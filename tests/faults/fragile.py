"""A method that trains as joint does until a fault laid out for it strikes: once, in the trial that meets it."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from typing import Any, ClassVar, Never

import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Losses
from balance_tune.tunable import tunable
from tests.faults.traps import sprung

EPOCH = 2  # 0-based epoch in which it strikes


@dataclass
class Fragile(Modulation):
    """Joint training, and a fault where one waits. `weight` scales the loss, so that there is something to search."""

    name: ClassVar[str] = "fragile"
    paper: ClassVar[str] = "none: a test"

    weight: float = tunable(1.0, low=0.5, high=2.0, source="this test")

    def on_losses(self, losses: Losses, output: Any, batch: Any, ctx: Any) -> Losses:
        losses = {name: self.weight * loss for name, loss in losses.items()}
        if ctx.epoch != EPOCH:
            return losses
        for fault in FAULTS:
            if sprung(fault):
                losses["fused"] = FAULTS[fault](losses["fused"])
        return losses

    def on_gradients(self, output: Any, batch: Any, ctx: Any) -> None:
        if ctx.epoch != EPOCH:
            return
        for fault, factor in GRADIENTS.items():
            if sprung(fault):
                for parameter in ctx.parameters:
                    parameter.grad *= factor


def die(loss: Tensor) -> Never:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def hang(loss: Tensor) -> Never:
    while True:
        time.sleep(0.1)


def no_memory(loss: Tensor) -> Never:
    raise MemoryError("no memory left on the host")


def no_device_memory(loss: Tensor) -> Never:
    raise torch.OutOfMemoryError("out of memory on the device")


def disk_full(loss: Tensor) -> Never:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(loss: Tensor) -> Never:
    raise RuntimeError("a hook of the method broke")


FAULTS = {
    "dies": die,
    "hangs": hang,
    "host memory": no_memory,
    "device memory": no_device_memory,
    "disk full": disk_full,
    "exception": broken,
    "nan loss": lambda loss: loss * float("nan"),
    "inf loss": lambda loss: loss * float("inf"),
}
GRADIENTS = {"nan gradient": float("nan"), "inf gradient": float("inf")}
