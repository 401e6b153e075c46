"""GPUs that Ray has and torch has not, and GPUs that break: told in a line, left out, and no trial fails by them.

Where GPUs work, they are pretended (`tests.device`): trials really run on `cuda:0` there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from balance_tune.studies.engine import run_study
from tests.cluster.nodes import nodes
from tests.cluster.study import STUDY, count, leaderboard, records, told, weights
from tests.device.worker import HOOK, WORKING
from tests.faults.traps import TRAPS, lay

REPOSITORY = Path(__file__).parents[2]
SMALL = {**STUDY, "training": {"epochs": 6, "batch_size": 256}}


def run(root: Path, *overrides: str, working: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the study on a Ray with two GPUs, of which so many are pretended and the others are not there at all."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", WORKING)}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", TRAPS: str(root / "traps")}
    environment |= {WORKING: str(working)} if working else {}
    return subprocess.run(
        [sys.executable, "-m", "tests.device.study", str(root), *overrides],
        env=environment, cwd=root, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.ray
@pytest.mark.parametrize("gpus", [pytest.param("1", marks=pytest.mark.cluster), "auto"])
def test_gpus_that_are_not_there_end_the_study_before_a_trial_is_spent(gpus: str, tmp_path: Path) -> None:
    done = run(tmp_path, f"resources.gpus_per_trial={gpus}", "-q")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no node is left whose GPUs work" in line
    assert "Ray has 2 GPUs there, but torch sees 0" in line
    assert "resources.gpus_per_trial=0" in line
    assert done.stdout == ""
    assert records(tmp_path) == []


@pytest.mark.cluster
def test_a_measurement_that_fails_is_one_line_and_the_study_goes_on(tmp_path: Path) -> None:
    lay(tmp_path / "traps", "measurement")
    done = run(tmp_path, "search.trials=2", working=2)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "of a GPU" in line]
    assert "each trial gets 0.25 of a GPU; it could not be measured: AcceleratorError: CUDA error" in line


@pytest.mark.cluster
def test_a_sticky_error_loses_one_trial_and_changes_nothing(tmp_path: Path) -> None:
    calm, struck = tmp_path / "calm", tmp_path / "struck"
    for root in (calm, struck):
        root.mkdir()
    lay(struck / "traps", "sticky")
    for root in (calm, struck):
        done = run(root, "resources.gpus_per_trial=1", working=2)
        assert done.returncode == 0, done.stderr
    assert not (struck / "traps" / "sticky").exists(), "the fault never struck"
    assert count(struck, "lost") == 1
    assert [r.state for r in records(struck)] == [r.state for r in records(calm)]
    assert all(r.state != "failed" for r in records(struck))
    assert leaderboard(struck) == leaderboard(calm)
    assert told(struck) == told(calm)
    assert weights(struck) == weights(calm)
    (reason,) = {r.attrs["lost_reason"] for r in records(struck) if "lost_reason" in r.attrs}
    assert "DeviceError: CUDA error: an illegal memory access was encountered" in reason


@pytest.mark.cluster
def test_a_study_goes_on_where_gpus_work_and_leaves_out_a_node_where_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    with nodes(0, monkeypatch, hook=HOOK) as (cluster, _):
        cluster.add_node(num_cpus=2, num_gpus=2)
        monkeypatch.setenv(WORKING, "1")
        cluster.add_node(num_cpus=1, num_gpus=1)
        cluster.wait_for_nodes()
        study = {**SMALL, "resources": {"gpus_per_trial": 1, "max_concurrent": 2}}
        result = run_study(study, root=tmp_path, progress="plain")
    assert result.state == "done"
    assert count(tmp_path, "lost") == 0
    assert {r.state for r in records(tmp_path)} <= {"complete", "pruned"}
    assert "left out:" in capsys.readouterr().err
