"""The largest size a cluster may reach."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from balance_tune.errors import UserError
from balance_tune.studies.cluster import capacity as module
from balance_tune.studies.cluster.capacity import REACH, largest, reach

CLUSTER = Path(__file__).parents[3] / "cluster"


@pytest.fixture(autouse=True)
def _no_head_of_ray_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    monkeypatch.delenv(REACH, raising=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("aws.yaml", {"CPU": 64, "GPU": 8}), ("gcp.yaml", {"CPU": 64, "GPU": 8}), ("local-autoscaling.yaml", {"CPU": 3})],
)
def test_a_launcher_file_tells_what_all_its_nodes_add_up_to(name: str, expected: dict[str, float]) -> None:
    assert largest(yaml.safe_load((CLUSTER / name).read_text())) == expected


def test_a_cluster_of_ray_up_reaches_what_its_file_on_the_head_says(tmp_path: Path) -> None:
    assert reach({"CPU": 0.0}) == {"CPU": 0.0}
    (tmp_path / "bootstrap.yaml").write_text((CLUSTER / "aws.yaml").read_text())
    assert reach({"CPU": 0.0, "memory": 5.0}) == {"CPU": 64.0, "GPU": 8.0, "memory": 5.0}
    assert reach({"CPU": 128.0})["CPU"] == 128.0


def test_what_the_environment_says_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bootstrap.yaml").write_text((CLUSTER / "aws.yaml").read_text())
    monkeypatch.setenv(REACH, '{"CPU": 4}')
    assert reach({"CPU": 1.0}) == {"CPU": 4.0}


@pytest.mark.parametrize("text", ["4", "[4]", '{"CPU": "many"}', '{"CPU": -1}', '{"CPU": NaN}', "{CPU: 4}"])
def test_what_is_no_mapping_of_amounts_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REACH, text)
    with pytest.raises(UserError, match="must look like"):
        reach({})


@pytest.mark.parametrize("text", ["", "- a", "a: ["])
def test_a_file_that_is_none_of_rays_is_no_trouble(text: str, tmp_path: Path) -> None:
    (tmp_path / "bootstrap.yaml").write_text(text)
    assert reach({"CPU": 2.0}) == {"CPU": 2.0}
