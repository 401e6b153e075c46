"""What is tried on nodes before the first trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.cluster import preflight as module
from balance_tune.studies.cluster.preflight import preflight, try_storage
from balance_tune.studies.cluster.ray_cluster import TrialResources
from balance_tune.studies.storage.study_folder import StudyFolder


def test_a_folder_that_is_not_the_drivers_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("token")
    assert try_storage(str(tmp_path), "token") == ""
    assert "another file" in try_storage(str(tmp_path), "other")
    assert "No such file" in try_storage(str(tmp_path / "elsewhere"), "token")
    assert [p.name for p in tmp_path.iterdir()] == ["driver"]


def elsewhere(where: str, token: str) -> str:
    return try_storage("/somewhere/else", token)


@pytest.mark.ray
def test_a_cluster_is_tried_before_its_first_trial_and_left_clean(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    assert preflight(StudyFolder(tmp_path), TrialResources(1, 0.0, 1, 2), 60.0, said.append) == ""
    assert said == []
    reason = preflight(StudyFolder(tmp_path), TrialResources(1, 4.0, 1, 2), 0.5, said.append)
    assert "no trial got what it needs (CPU 1, GPU 4), and the cluster has (CPU 2, GPU 0)" in reason
    assert said == ["waiting for the first node that can take a trial"]
    monkeypatch.setattr(module, "try_storage", elsewhere)
    with pytest.raises(UserError, match=r"cannot write to .*: No such file or directory"):
        preflight(StudyFolder(tmp_path), TrialResources(1, 0.0, 1, 2), 60.0, said.append)
    assert list(tmp_path.iterdir()) == []
