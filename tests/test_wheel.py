"""The wheel, installed outside of the clone, works from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("balance_tune", "search_spaces", "pyproject.toml", "setup.py", "README.md", "LICENSE")
TINY = [
    "datasets=[multiple_features]", "methods=[joint]", "training.epochs=2", "search.trials=2", "search.space=null",
    "search.early_stopping=none", "select.points=1", "select.seeds=0", "confirm.seeds=2", "confirm.default_seeds=0",
]  # fmt: skip


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without what would lead back to the clone, and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BALANCE_TUNE_ROOT")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that nothing of an earlier build gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "sources").mkdir()
    for name in SOURCES:
        source, target = REPOSITORY / name, folder / "sources" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, folder / "sources", cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    binaries = folder / "bin"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        binaries / "python",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    run(*pip, wheel, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return binaries


def test_the_wheel_holds_the_package_its_data_and_the_study_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {f"balance_tune/{path.relative_to(REPOSITORY / 'balance_tune')}" for path in _files("balance_tune")}
    studies = {f"balance_tune/search_spaces/{path.name}" for path in _files("search_spaces")}
    assert {name for name in names if ".dist-info/" not in name} == code | studies
    assert "balance_tune/py.typed" in code


def _files(folder: str) -> list[Path]:
    return [path for path in (REPOSITORY / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_shipped_studies_are_listed_and_a_new_one_is_written(installed: Path, tmp_path: Path) -> None:
    code = "import balance_tune.package, sys; print(balance_tune.package.FOLDER)"
    assert run(installed / "python", "-c", code, cwd=tmp_path).startswith(str(installed.parent))
    told = json.loads(run(installed / "balance-tune", "studies", "-f", "json", cwd=tmp_path))
    assert [entry["name"] for entry in told] == sorted(path.stem for path in _files("search_spaces"))
    run(installed / "balance-tune", "init", "mine", cwd=tmp_path)
    assert "mine: 3 arms" in run(installed / "balance-tune", "plan", "mine.yaml", "--no-measure", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.ray
def test_the_quickstart_runs_by_its_name(installed: Path, tmp_path: Path) -> None:
    rows = json.loads(run(installed / "balance-tune", "run", "quickstart", "-q", "-f", "json", *TINY, cwd=tmp_path))
    assert [(row["arm"], row["trials"], len(row["seeds"])) for row in rows] == [("multiple_features/joint", 2, 2)]
    assert (tmp_path / "studies" / "quickstart" / "report" / "index.html").is_file()
