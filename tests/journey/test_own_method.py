"""An own method as an installed plug-in, and two named arms of it in one study: an ablation."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.journey.user import REPOSITORY, User

PLUGIN = REPOSITORY / "tests" / "plugin"
STUDY = """
name: ablation
datasets: [multiple_features]
methods:
  - joint
  - catch_up
  - {name: catch_up_forgetful, method: catch_up, set: {memory: 0.0}}
training: {epochs: 1}
search: {trials: 1, early_stopping: none}
select: {points: 1, seeds: 0}
confirm: {seeds: 2, default_seeds: 0}
"""


def install(site: Path) -> None:
    """Put the plug-in into a folder as pip does: its module, and its metadata beside it."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PLUGIN / "src" / "catch_up.py", site)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.ray
def test_an_ablation_of_an_own_method_is_one_study(tmp_path: Path) -> None:
    install(tmp_path / "site")
    user = User(tmp_path, tmp_path / "site")
    (tmp_path / "study.yaml").write_text(STUDY)
    user.types("run", "study.yaml", "-q")
    rows = {row["method"]: row for row in user.reads("report", "ablation")}
    assert set(rows) == {"joint", "catch_up", "catch_up_forgetful"}
    assert {row["complete"] for row in rows.values()} == {1}
    definition = rows["catch_up_forgetful"]["definition"]
    assert "catch_up" in definition
    assert "memory" in definition
