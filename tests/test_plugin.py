"""A method in a package of its own is there once it is installed, without any edit in ours."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import balance_tune

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(balance_tune.__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the plug-in is installed as pip would: its module, and its metadata beside it."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shutil.copy(PLUGIN / "src" / "catch_up.py", site)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return site


def run(site: Path, *arguments: str) -> str:
    """Run python with the plug-in installed and return what it printed."""
    path = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plug_in_is_one_short_file() -> None:
    sources = list((PLUGIN / "src").glob("*.py"))
    assert len(sources) == 1
    assert len(sources[0].read_text().splitlines()) < 60


def test_the_registry_knows_it(site: Path) -> None:
    code = "import balance_tune.registry as r, json; print(json.dumps(r.modulations().names()))"
    names = json.loads(run(site, "-c", code))
    assert "catch_up" in names
    assert "joint" in names
    assert "catch_up" not in json.loads(run(site / "nowhere", "-c", code))


def test_the_command_line_tells_what_it_is(site: Path) -> None:
    assert re.search(r"gamma\s+0\.5\s+0\.1 to 2\s+log", run(site, "-m", "balance_tune", "methods", "catch_up"))


def test_a_study_can_have_it_as_an_arm(site: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: plugged\ndatasets: [av_digits]\nmethods: [joint, catch_up]\n"
        "search:\n  trials: 3\n  space:\n    catch_up: {gamma: {low: 0.2, high: 1.0, log: true}}\n"
    )
    assert "av_digits/catch_up" in run(site, "-m", "balance_tune", "plan", str(study), "--root", str(tmp_path))


def test_it_passes_the_contract_it_inherits(site: Path) -> None:
    told = run(
        site,
        "-m",
        "pytest",
        "-q",
        str(PLUGIN / "test_catch_up.py"),
        "-k",
        "concat or not (film or gated or late or mlp or sum or transformer)",
    )
    assert re.search(r"^40 passed", told, re.MULTILINE), told


@pytest.mark.full
def test_it_passes_the_whole_contract(site: Path) -> None:
    told = run(site, "-m", "pytest", "-q", str(PLUGIN / "test_catch_up.py"))
    assert re.search(r"^2\d\d passed", told, re.MULTILINE), told
