"""What a node says of itself."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.cluster.preflight import shared_place
from balance_tune.studies.doctor import probe
from balance_tune.studies.doctor.nodes import Node
from balance_tune.studies.storage.study_folder import StudyFolder


def test_a_node_tells_its_name_versions_and_room_and_whether_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "torch_gpus", lambda: 2)
    with shared_place(StudyFolder(tmp_path)) as (place, token):
        seen = probe.look(place, token)
    node = Node(**seen, head=True, ray_gpus=2.0, cpus=4.0, skew=0.0)
    assert (node.name, node.torch_gpus, node.storage) == (platform.node(), 2, "")
    assert {"python", "ray", "torch", "balance_tune"} <= seen["versions"].keys()
    assert node.disk_free > 0


def test_a_place_that_is_another_one_on_the_node_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "torch_gpus", lambda: None)
    assert probe.look(str(tmp_path / "not-shared"), "token")["storage"] != ""


def test_the_package_has_a_version_where_it_was_sent_along_instead_of_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name == "balance_tune":
            raise probe.PackageNotFoundError
        return "1"

    monkeypatch.setattr(probe, "version", version)
    assert probe.versions_here()["balance_tune"]


@pytest.mark.parametrize(("output", "gpus"), [("3\n", 3), ("a warning\n0\n", 0), ("", None), ("none\n", None)])
def test_the_gpus_that_torch_sees_are_counted_in_a_process_without_rays_choice(
    monkeypatch: pytest.MonkeyPatch, output: str, gpus: int | None
) -> None:
    def run(command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "CUDA_VISIBLE_DEVICES" not in env
        return subprocess.CompletedProcess(command, 0, stdout=output)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(subprocess, "run", run)
    assert probe.torch_gpus() == gpus


def test_without_torch_the_gpus_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> Any:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", run)
    assert probe.torch_gpus() is None


@pytest.mark.parametrize(("limit", "expected"), [("1000000", 1_000_000), ("max", None), (None, None)])
def test_the_memory_of_a_container_is_its_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: int | None
) -> None:
    def read_text(path: Path) -> str:
        if limit is None:
            raise FileNotFoundError(path)
        return f"{limit}\n"

    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(Path, "read_text", read_text)
    assert probe.memory_here() == (whole if expected is None else expected)
