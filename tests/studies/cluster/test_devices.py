"""Nodes whose GPUs do not work are left out, in one line; without Ray."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from balance_tune.studies.cluster import devices as module
from balance_tune.studies.cluster.devices import MOST_FAILURES, Devices, gpus_here
from balance_tune.studies.cluster.placement import elsewhere, place

CLUSTER = {"CPU": 6.0, "GPU": 3.0}


def node(identity: str, gpus: float, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": 2.0, **({"GPU": gpus} if gpus else {})}
    return {"NodeID": identity, "NodeManagerHostname": f"host-{identity}", "Alive": alive, "Resources": resources}


class Cluster:
    """Nodes a (2 GPUs) and b (1 GPU), one without any, and what a look at each brings back."""

    def __init__(self, patch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.nodes = [node("a", 2), node("b", 1), node("c", 0), node("d", 4, alive=False)]
        self.said: list[str] = []
        self.devices = Devices(self.said.append)
        patch.setattr(ray, "nodes", lambda: self.nodes)
        patch.setattr(ray, "wait", lambda *rest, **how: None)
        patch.setattr(ray, "get", self._get)
        patch.setattr(module, "task_on", lambda n, f: SimpleNamespace(remote=lambda: n["NodeID"]))
        self.answers = answers

    def _get(self, reference: str, timeout: float) -> Any:
        answer = self.answers[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_where_all_gpus_work_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, a=(2, ""), b=(1, ""))
    assert cluster.devices.check() == ""
    assert (cluster.said, cluster.devices.left_out) == ([], {})
    assert cluster.devices.of(CLUSTER) == CLUSTER


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0, ""), "Ray has 2 GPUs there, but torch sees 0"),
        ((1, ""), "Ray has 2 GPUs there, but torch sees 1"),
        (
            (None, "RuntimeError: CUDA error: no kernel image"),
            "its GPUs cannot be used: RuntimeError: CUDA error: no k",
        ),
        (ray.exceptions.GetTimeoutError("late"), "it does not answer"),
        (ray.exceptions.WorkerCrashedError(), "The worker died unexpectedly"),
    ],
)
def test_a_node_whose_gpus_do_not_work_is_left_out_in_one_line(
    answer: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(monkeypatch, a=answer, b=(1, ""))
    assert cluster.devices.check() == ""
    (line,) = cluster.said
    assert line.startswith(f"left out: host-a ({words}")
    assert "\n" not in line
    assert cluster.devices.left_out == {"a": "host-a"}
    assert cluster.devices.of(CLUSTER) == {"CPU": 6.0, "GPU": 1.0}
    assert cluster.devices.none_left() == ""


def test_where_none_works_the_reason_is_the_only_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, a=(0, ""), b=(None, "ImportError: libcuda"))
    why = cluster.devices.check()
    assert why.startswith("no node is left whose GPUs work: host-a (Ray has 2 GPUs there, but torch sees 0), host-b (")
    assert why.endswith("train on CPUs: resources.gpus_per_trial=0")
    assert cluster.said == []


def lost(identity: str, reason: str = "CUDA error: unspecified launch failure (sticky)") -> str:
    return f"balance_tune.training.errors.DeviceError: {reason} (node {identity} on host-{identity})"


def test_a_node_on_which_devices_fail_again_and_again_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    devices = cluster.devices
    assert not devices.record_failure("its process died")
    for _ in range(MOST_FAILURES - 1):
        assert devices.record_failure(lost("a"))
    assert devices.record_failure(lost("b"))
    assert devices.left_out == {}
    assert devices.record_failure(lost("a", "CUDA error: the last one"))
    assert devices.left_out == {"a": "host-a"}
    assert cluster.said == [
        f"left out: host-a ({MOST_FAILURES} trials failed on its device, at last: CUDA error: the last one)"
    ]
    assert devices.none_left() == ""
    for _ in range(MOST_FAILURES):
        devices.record_failure(lost("b"))
    assert devices.none_left().startswith("no node is left whose GPUs work: host-a, host-b;")


def test_a_trial_that_keeps_away_from_nodes_says_so_in_its_placement() -> None:
    assert elsewhere([]) == {}
    assert elsewhere(["b", "a"]) == {"ray.io/node-id": "!in(a,b)"}
    how: dict[str, Any] = {"cpus": 1, "gpus": 0.5, "workers": 1, "head": "head"}
    usual, kept_away = place({}, **how), place({"avoid": ["a"]}, **how)
    assert usual.bundles == kept_away.bundles == [{"CPU": 1.0, "GPU": 0.5}]
    assert usual != kept_away
    assert place({"avoid": ["a"]}, **how) is kept_away  # Tune compares them often


def test_a_machine_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USE_GPUS", "print('a line of a driver'); print(3)")
    assert gpus_here() == (3, "")
    monkeypatch.setattr(module, "USE_GPUS", "raise RuntimeError('CUDA error: unknown error')")
    assert gpus_here() == (None, "RuntimeError: CUDA error: unknown error")
    monkeypatch.setattr(module, "USE_GPUS", "import os; os._exit(7)")
    assert gpus_here() == (None, "it ended without an error")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setattr(module, "USE_GPUS", "import os; print(int('CUDA_VISIBLE_DEVICES' in os.environ))")
    assert gpus_here() == (0, "")  # whatever Ray gave to this process


@pytest.mark.parametrize(
    ("status", "output", "errors", "expected"),
    [
        (0, "3\n", "", (3, "")),
        (0, "a warning\n0\n", "", (0, "")),
        (1, "", "Traceback\n  line\nRuntimeError: no driver\n", (None, "RuntimeError: no driver")),
        (-11, "", "", (None, "it ended without an error")),
    ],
)
def test_the_gpus_that_torch_can_use_are_counted_whatever_ray_gave_to_the_process(
    monkeypatch: pytest.MonkeyPatch, status: int, output: str, errors: str, expected: tuple[int | None, str]
) -> None:
    def run(command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "CUDA_VISIBLE_DEVICES" not in env
        return subprocess.CompletedProcess(command, status, stdout=output, stderr=errors)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(subprocess, "run", run)
    assert gpus_here() == expected


def test_a_process_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired("python", 100)

    monkeypatch.setattr(subprocess, "run", run)
    count, error = gpus_here()
    assert count is None
    assert "timed out" in error
