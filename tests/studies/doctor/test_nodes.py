"""What the checks of nodes say of broken ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from balance_tune.studies.doctor import nodes
from balance_tune.studies.doctor.finding import Finding
from balance_tune.studies.doctor.nodes import GIB, MIB, Node

VERSIONS = {"python": "3.11", "torch": "2.11.0"}
HEAD = Node("head", head=True, cpus=2, versions=VERSIONS)


def driver_versions(seen: Sequence[Node]) -> Finding:
    return nodes.versions(VERSIONS, seen)


def root(seen: Sequence[Node]) -> Finding:
    return nodes.storage("/mnt/studies", seen)


CHECKS: list[Callable[[Sequence[Node]], Finding]] = [
    nodes.answers,
    nodes.devices,
    driver_versions,
    root,
    nodes.disk,
    nodes.shared_memory,
    nodes.clocks,
    nodes.memory,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("seen", [[HEAD], [HEAD, Node("gpu-1", ray_gpus=1, torch_gpus=1, versions=VERSIONS)]])
def test_healthy_nodes_are_all_well(check: Callable[[Sequence[Node]], Finding], seen: list[Node]) -> None:
    found = check(seen)
    assert (found.state, found.remedy) == ("ok", "")


@pytest.mark.parametrize(
    ("check", "node", "state", "words", "remedy"),
    [
        (nodes.answers, Node("w", error="no answer in time"), "fail", "1 of 2 nodes ran no task: w (no", "ray status"),
        (nodes.devices, Node("w", ray_gpus=4, torch_gpus=0), "fail", "Ray has 4 GPUs on w, but torch sees 0", "CUDA"),
        (nodes.devices, Node("w", torch_gpus=2), "warn", "torch sees 2 GPUs on w", "--num-gpus 2"),
        (nodes.devices, Node("w", torch_gpus=None, gpu_error="a CUDA error"), "fail", "on w: a CUDA error", "install"),
        (
            driver_versions,
            Node("w", versions={**VERSIONS, "torch": "2.9.1"}),
            "fail",
            "torch is 2.11.0 here and 2.9.1 on w",
            "one image",
        ),
        (driver_versions, Node("w", versions={}), "fail", "python is 3.11 here and absent on w", "one image"),
        (root, Node("w", storage="No such file or directory"), "fail", "/mnt/studies is not the driver's on w", "NFS"),
        (nodes.disk, Node("w", disk_free=GIB // 2), "fail", "0.5 GiB are free under the root on w", "free at least"),
        (nodes.disk, Node("w", disk_free=3 * GIB), "warn", "3.0 GiB are free", "balance-tune delete"),
        (nodes.shared_memory, Node("w", shm=64 * MIB), "fail", "/dev/shm has 64 MiB on w", "--shm-size"),
        (nodes.clocks, Node("w", skew=-95.0), "fail", "the clock of w is 95.0 s behind", "NTP"),
        (nodes.clocks, Node("w", skew=4.0), "warn", "the clock of w is 4.0 s ahead", "NTP"),
        (nodes.memory, Node("w", head=True, memory=GIB // 2), "fail", "the head w has 0.5 GiB", "larger head"),
    ],
)
def test_a_broken_node_gives_its_line(
    check: Callable[[Sequence[Node]], Finding], node: Node, state: str, words: str, remedy: str
) -> None:
    seen = [node, HEAD] if node.head else [HEAD, node]
    found = check(seen)
    assert found.state == state
    assert words in found.words
    assert remedy in found.remedy
    assert len(str(found).splitlines()) == 1


def test_the_head_must_hold_a_controller_for_every_worker_group() -> None:
    assert nodes.memory([HEAD], groups=8).state == "ok"
    found = nodes.memory([HEAD], groups=64)
    assert found.state == "fail"
    assert "39.4 are needed for the driver and 64 controllers of worker groups" in found.words


def test_a_machine_without_shared_memory_files_is_no_fault() -> None:
    assert nodes.shared_memory([Node("mac", shm=None)]).state == "ok"
