"""What a node says of itself."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from balance_tune.studies.cluster.preflight import shared_place
from balance_tune.studies.doctor import probe
from balance_tune.studies.doctor.nodes import Node
from balance_tune.studies.storage.study_folder import StudyFolder


def test_a_node_tells_its_name_versions_and_room_and_whether_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "gpus_here", lambda: (2, ""))
    with shared_place(StudyFolder(tmp_path)) as (place, token):
        seen = probe.look(place, token)
    node = Node(**seen, head=True, ray_gpus=2.0, cpus=4.0, skew=0.0)
    assert (node.name, node.torch_gpus, node.storage) == (platform.node(), 2, "")
    assert {"python", "ray", "torch", "balance_tune"} <= seen["versions"].keys()
    assert node.disk_free > 0


def test_a_place_that_is_another_one_on_the_node_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "gpus_here", lambda: (None, "no driver"))
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
