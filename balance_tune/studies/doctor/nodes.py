"""Compares the nodes of a cluster with the driver and with each other; pure functions of the collected facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from balance_tune.studies.doctor.finding import Finding, fail, ok, warn

GIB, MIB = 2**30, 2**20
DISK_LEAST, DISK_WISH = 1 * GIB, 5 * GIB
SHM_LEAST = 128 * MIB  # a container's default is 64 MiB; workers of one trial and Ray's object store share it
SKEW_WISH, SKEW_MOST = 2.0, 30.0  # seconds
TRAIN_RUN = 0.6 * GIB  # what one Ray Train run with a worker group takes on the head, as seen on Ray 2.60
DRIVER = 1 * GIB


@dataclass(frozen=True)
class Node:
    """One machine of the cluster as a task on it saw it; sizes in bytes, `skew` in seconds against the driver.

    `storage` is "" where the root could be written, read and cleaned from there, else what went wrong. `error` is why
    nothing is known, or "". `torch_gpus` is None where torch cannot be used; `gpu_error` is the reason then.
    """

    name: str
    head: bool = False
    ray_gpus: float = 0.0
    torch_gpus: int | None = 0
    gpu_error: str = ""
    cpus: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    disk_free: int = 100 * GIB
    shm: int | None = GIB
    memory: int = 16 * GIB
    skew: float = 0.0
    storage: str = ""
    error: str = ""


def answers(nodes: Sequence[Node]) -> Finding:
    """Whether a task could be run on every node."""
    silent = [f"{n.name} ({n.error})" for n in nodes if n.error]
    if silent:
        return fail(
            "nodes",
            f"{len(silent)} of {len(nodes)} nodes ran no task: {', '.join(silent[:3])}",
            "look at `ray status` and at that node's raylet log, or remove the node",
        )
    return ok("nodes", f"{len(nodes)} answered: {', '.join(n.name for n in nodes[:4])}{', ...' if nodes[4:] else ''}")


def devices(nodes: Sequence[Node]) -> Finding:
    """Whether Ray and torch see the same GPUs on every node."""
    for n in nodes:
        if n.torch_gpus is None:
            why = f": {n.gpu_error}" if n.gpu_error else ""
            return fail("devices", f"torch cannot be used on {n.name}{why}", "install balance_tune there, or an image")
        if n.ray_gpus > n.torch_gpus:
            return fail(
                "devices",
                f"Ray has {n.ray_gpus:g} GPUs on {n.name}, but torch sees {n.torch_gpus}",
                "check the driver and that torch is a CUDA build there; a study leaves that node out",
            )
        if n.torch_gpus and not n.ray_gpus:
            return warn(
                "devices",
                f"torch sees {n.torch_gpus} GPUs on {n.name}, but Ray hands out none",
                f"start Ray there with `--num-gpus {n.torch_gpus}`",
            )
    gpus, cpus = sum(n.ray_gpus for n in nodes), sum(n.cpus for n in nodes)
    return ok("devices", f"{cpus:g} CPUs and {f'{gpus:g} GPUs' if gpus else 'no GPU'} in Ray and in torch alike")


def versions(driver: Mapping[str, str], nodes: Sequence[Node]) -> Finding:
    """Whether every node has what the driver has."""
    for n in nodes:
        for package, ours in driver.items():
            theirs = n.versions.get(package, "absent")
            if theirs != ours:
                return fail(
                    "versions",
                    f"{package} is {ours} here and {theirs} on {n.name}",
                    "use one image, or one constraints.txt, for driver and nodes",
                )
    return ok("versions", ", ".join(f"{package} {version}" for package, version in driver.items()))


def storage(root: str, nodes: Sequence[Node]) -> Finding:
    """Whether every node can write, read and delete what the driver sees too."""
    bad = [n for n in nodes if n.storage]
    if bad:
        cure = "put --root on a folder that all nodes mount under the same path (NFS, EFS, Filestore, a volume claim)"
        if "://" in root:
            cure = "let the node's role or credentials read, write and delete there"
        return fail("storage", f"{root} is not the driver's on {bad[0].name}: {bad[0].storage}", cure)
    return ok("storage", f"{root} was written, read and cleaned from {len(nodes)} node{'s' if nodes[1:] else ''}")


def disk(nodes: Sequence[Node]) -> Finding:
    """Whether there is room for checkpoints."""
    least = min(nodes, key=lambda n: n.disk_free)
    free = f"{least.disk_free / GIB:.1f} GiB are free under the root on {least.name}"
    if least.disk_free < DISK_LEAST:
        return fail("disk", free, f"free at least {DISK_LEAST // GIB} GiB, or choose another --root")
    if least.disk_free < DISK_WISH:
        return warn("disk", free, "a long study may fill it; `balance-tune delete STUDY` frees what an old one holds")
    return ok("disk", free)


def shared_memory(nodes: Sequence[Node]) -> Finding:
    """Whether /dev/shm is large enough for Ray's object store."""
    measured = [n for n in nodes if n.shm is not None]
    if not measured:
        return ok("shm", "no /dev/shm here; Ray uses files")
    least = min(measured, key=lambda n: n.shm or 0)
    size = f"/dev/shm has {(least.shm or 0) / MIB:.0f} MiB on {least.name}"
    if (least.shm or 0) < SHM_LEAST:
        return fail("shm", size, "give the container more: `docker run --shm-size=2g`, or a Memory volume on /dev/shm")
    return ok("shm", size)


def clocks(nodes: Sequence[Node]) -> Finding:
    """Whether the clocks agree; runs, leases and tokens are compared across machines."""
    worst = max(nodes, key=lambda n: abs(n.skew))
    text = f"the clock of {worst.name} is {abs(worst.skew):.1f} s {'ahead' if worst.skew > 0 else 'behind'}"
    if abs(worst.skew) > SKEW_MOST:
        return fail("clock", text, "set it by NTP (chrony); certificates and the order of runs depend on it")
    if abs(worst.skew) > SKEW_WISH:
        return warn("clock", text, "set it by NTP (chrony)")
    return ok("clock", f"within {max(abs(worst.skew), 0.1):.1f} s of the driver's on every node")


def memory(nodes: Sequence[Node], groups: int = 0) -> Finding:
    """Whether the head has memory for the driver and the controllers of so many trials of several workers."""
    head = next((n for n in nodes if n.head), nodes[0])
    need = DRIVER + groups * TRAIN_RUN
    what = "the driver" + (f" and {groups} controllers of worker groups" if groups else "")
    text = f"the head {head.name} has {head.memory / GIB:.1f} GiB; {need / GIB:.1f} are needed for {what}"
    if head.memory < need:
        return fail("memory", text, "take a larger head, or lower `resources.max_concurrent`")
    return ok("memory", text)
