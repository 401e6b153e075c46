"""GPUs that do not work: counted in a process of their own, and nodes left out after failures."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from balance_tune.studies.cluster import devices
from balance_tune.studies.cluster.devices import MOST_FAILURES, Devices, gpus_here


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two nodes of a cluster with GPUs, as Ray tells of them."""
    made = [{"NodeID": "a1", "NodeManagerHostname": "one", "Resources": {"GPU": 2.0}}]
    made += [{"NodeID": "b2", "NodeManagerHostname": "two", "Resources": {"GPU": 1.0}}]
    monkeypatch.setattr(devices, "_with_gpus", lambda: made)
    return made


def failure(node: str, name: str) -> str:
    return f"lost: DeviceFailure: an illegal access (node {node} on {name})"


@pytest.mark.parametrize(
    ("status", "output", "errors", "expected"),
    [
        (0, "3\n", "", (3, "")),
        (0, "a warning\n0\n", "", (0, "")),
        (1, "", "Traceback\n  line\nRuntimeError: no driver\n", (None, "RuntimeError: no driver")),
        (-11, "", "", (None, "it ended without a word")),
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


def test_a_node_is_left_out_when_its_device_has_failed_often_enough() -> None:
    said: list[str] = []
    known = Devices(said.append)
    for number in range(MOST_FAILURES):
        assert known.left_out == {}, number
        assert known.failed(failure("a1", "one"))
    assert known.left_out == {"a1": "one"}
    assert len(said) == 1
    assert "an illegal access" in said[0]
    assert known.failed(failure("a1", "one"))
    assert len(said) == 1
    assert known.of({"CPU": 8.0, "GPU": 3.0}) == {"CPU": 8.0, "GPU": 1.0}
    assert known.none_left() == ""


def test_what_is_no_failure_of_a_device_leaves_no_node_out() -> None:
    known = Devices(print)
    assert not any(known.failed("its process died") for _ in range(MOST_FAILURES))
    assert known.left_out == {}
    assert known.of({"GPU": 3.0}) == {"GPU": 3.0}


def test_when_every_node_is_left_out_the_study_is_told_why_and_what_to_do() -> None:
    known = Devices(lambda line: None)
    for node, name in (("a1", "one"), ("b2", "two")):
        for _ in range(MOST_FAILURES):
            known.failed(failure(node, name))
    assert "no node is left whose GPUs work: one, two" in known.none_left()
    assert "resources.gpus_per_trial=0" in known.none_left()
    assert known.of({"GPU": 3.0}) == {"GPU": 0.0}
