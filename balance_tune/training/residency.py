"""Where a trial's data lies while it is read: on the device, in this process's memory, or in the mapped files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from balance_tune.datasets.redraw import open_redrawn
from balance_tune.datasets.sharded import Sharded
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import OPEN, Data, open_store
from balance_tune.errors import UserError

Residency = Literal["device", "memory", "mapped"]
Asked = Literal["auto", "device", "memory", "mapped"]
OF_DEVICE = 0.4  # of the device memory that is free, at most; the rest is the model's
OF_MEMORY = 0.25  # of the memory that is free, at most: other trials of this node may do the same
PAGES = 2**28  # bytes from which on files are worth a copy; smaller ones lie in the page cache as they are


def choose(residency: str, nbytes: int, *, device_free: int | None, memory_free: int) -> Residency:
    """Return where `nbytes` of data should lie.

    On the device where they fit into two fifths of its free memory; in this process's memory where a device has to be
    fed and they fit into a quarter of what is free; else in the mapped files, whose pages all processes share. Without
    a device of its own memory (`device_free` None) mapped files are as near as anything.

    Raises:
        UserError: they are asked to lie where there is no room for them.
    """
    if residency not in get_args(Asked):
        raise UserError(f"`data.residency` must be one of {', '.join(get_args(Asked))}, but got `{residency}`.")
    if residency == "device" and device_free is not None and nbytes > device_free:
        raise UserError(
            f"`data.residency: device` needs room for {nbytes / 2**30:.1f} GiB of data, but {device_free / 2**30:.1f} "
            "GiB of the device are free; leave it at `auto`."
        )
    if residency == "memory" and nbytes > memory_free:
        raise UserError(
            f"`data.residency: memory` needs room for {nbytes / 2**30:.1f} GiB of data, but {memory_free / 2**30:.1f} "
            "GiB are free; leave it at `auto`."
        )
    if residency == "auto":
        if device_free is None:
            return "mapped"
        if nbytes <= OF_DEVICE * device_free:
            return "device"
        return "memory" if PAGES <= nbytes <= OF_MEMORY * memory_free else "mapped"
    if residency == "device" and device_free is None:
        return "mapped"
    return residency  # type: ignore[return-value]  # one of the three by now


def opened(
    store: str,
    device: str,
    residency: str = "auto",
    share: float = 1.0,
    judged: Literal["val", "test"] = "val",
    split_seed: int | None = None,
) -> Data:
    """Return what training may open of a store, lying where it should; a process opens it once and keeps it.

    Args:
        residency: `data.residency`.
        share: of the device that the trial has.
        judged: the part that epochs are judged by; "test", which breaks the seal, where a study says `protocol: paper`.
        split_seed: draws train, monitor and val anew (`datasets.redraw`); None: the store's own split.
    """
    keep = _open_near if torch.device(device).type == "cpu" else _open_on_device
    return keep(store, device, residency, share, judged, split_seed)


def _open(
    store: str, device: str, residency: str, share: float, judged: Literal["val", "test"], split_seed: int | None
) -> Data:
    parts, target = tuple(judged if part == "val" else part for part in OPEN), torch.device(device)
    if split_seed is None:
        data = open_store(store, parts=parts, unseal=judged == "test")
    else:
        data = open_redrawn(store, split_seed)
    nbytes = sum(part.nbytes for part in data.parts.values())
    where = choose(residency, nbytes, device_free=device_memory(target, share), memory_free=available_memory())
    return Data(data.manifest, {name: _at(part, where, target) for name, part in data.parts.items()})


_open_near = lru_cache(maxsize=8)(_open)
_open_on_device = lru_cache(maxsize=2)(_open)  # each split is a copy, and a device has little memory


def close_all() -> None:
    """Let go of all data that this process keeps open."""
    _open_near.cache_clear()
    _open_on_device.cache_clear()


def _at(part: Part, where: Residency, device: torch.device) -> Part:
    def moved(x: Any) -> Any:
        if where == "device":
            return x.to(device)
        if where == "memory":
            return x.to("cpu") if isinstance(x, Sharded) else x.clone()
        return x

    groups = None if part.groups is None else part.groups.to(device)
    inputs = {m: moved(x) for m, x in part.inputs.items()}
    return Part(inputs, part.labels.to(device), part.rows.to(device), groups, part.present)


def device_memory(device: torch.device, share: float = 1.0) -> int | None:
    """Return the bytes of a device that a trial with this share of it may take; None on the CPU, which has none."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return int(min(free, share * total))


def available_memory() -> int:
    """Return the bytes that this process may still take: of the machine, or of its container where that is less."""
    free = _meminfo()
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # another system than Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
